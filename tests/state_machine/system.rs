//! The cache under test, and its participants on threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use inkpot::{Assumption, Cache, Keep, Lease, OptLevel, Reclaimer, Stress, Tier};

use crate::model::{GROUPS, LIMIT, PARTICIPANTS, relies_on};
use crate::participant::{Command, Life, Reply};
use crate::support::fibre::Fibre;
use crate::support::synthetic::{Code, Counts, Synthetic, Unary};

struct Participant {
    commands: Option<Sender<Command>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

pub struct System {
    pub cache: Cache<Code>,
    pub counts: Arc<Counts>,
    /// The last is the group of the first two.
    pub assumptions: [Assumption; 4],
    pub keeps: Vec<Keep<Code>>,
    pub leases: Vec<Arc<Lease<Unary>>>,
    pub fibres: Vec<Fibre>,
    /// Bytes mapped before there was code: cells and thunks.
    pub mapped_at_first: u64,
    participants: Vec<Participant>,
}

impl System {
    pub fn new(quarantine: bool) -> Self {
        let mut stress = Stress::default();
        stress.quarantine = quarantine;
        let group = Assumption::new();
        let assumptions = [group.member(), group.member(), Assumption::new(), group];
        let of = assumptions.clone();
        let backend = Synthetic {
            groups: GROUPS as u32,
            ..Synthetic::relying(move |code| relies_on(code).map(|a| of[a].clone()).collect())
        };
        let counts = backend.counts.clone();
        let cache = Cache::with_backend(backend)
            // Records that only a failure keeps are not in the model.
            .retry_after(Duration::ZERO, Duration::ZERO)
            .reclaimer(Reclaimer::Manual)
            .budget(u64::MAX)
            .tiers([
                Tier::new("first", OptLevel::O1),
                Tier::new("second", OptLevel::O1),
            ])
            .generation_methods(LIMIT)
            .generation_age(Duration::from_secs(3600))
            .evacuate(false)
            .stress(stress)
            .build()
            .unwrap();
        let participants = (0..PARTICIPANTS).map(|p| Participant::new(&cache, p));
        Self {
            participants: participants.collect(),
            counts,
            assumptions,
            keeps: Vec::new(),
            leases: Vec::new(),
            fibres: Vec::new(),
            mapped_at_first: cache.statistics().mapped,
            cache,
        }
    }

    /// A participant does something, and all is quiet again.
    pub fn tell(&self, p: usize, command: Command) -> Reply {
        let participant = &self.participants[p];
        let commands = participant.commands.as_ref().expect("it has not ended");
        commands.send(command).expect("the participant lives");
        let reply = participant.replies.recv_timeout(Duration::from_secs(60));
        reply.expect("the participant answers")
    }

    /// Ends the participants.
    pub fn end_participants(&mut self) {
        for mut participant in self.participants.drain(..) {
            participant.commands = None;
            if let Some(thread) = participant.thread.take() {
                thread.join().expect("the participant did not panic");
            }
        }
    }
}

impl Participant {
    fn new(cache: &Cache<Code>, p: usize) -> Self {
        let (commands, inbox) = channel();
        let (outbox, replies) = channel();
        let cache = cache.clone();
        let thread = std::thread::spawn(move || {
            let me = cache.participant(format!("participant {p}"));
            let life = Life {
                cache: &cache,
                me: &me,
                inbox,
                outbox,
            };
            let _ = life.outbox.send(Reply::Done);
            life.stay(0);
        });
        // It has made itself a participant by the time it answers.
        replies.recv().expect("the participant begins");
        Self {
            commands: Some(commands),
            replies,
            thread: Some(thread),
        }
    }
}
