//! The cache under test, and its participants on threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use inkpot::{Cache, Error, Guard, Keep, Reclaimer, Stress};

use crate::model::{LIMIT, PARTICIPANTS};
use crate::support::synthetic::{Code, Counts, Synthetic, Unary, method};

/// What every call passes.
const X: i64 = 1000;

pub enum Command {
    Pin,
    Unpin,
    Repin,
    Get(Code),
    Entry(Code),
    CallHeld(usize),
    CallAddress(Code),
}

/// What became of a command.
pub enum Reply {
    Done,
    /// There was no code.
    Nothing,
    /// A method returned this.
    Returned(i64),
    Failed(Error),
}

struct Participant {
    commands: Option<Sender<Command>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

pub struct System {
    pub cache: Cache<Code>,
    pub counts: Arc<Counts>,
    pub keeps: Vec<Keep<Code>>,
    /// Bytes mapped before there was code: cells and thunks.
    pub mapped_at_first: u64,
    participants: Vec<Participant>,
}

impl System {
    pub fn new(quarantine: bool) -> Self {
        let mut stress = Stress::default();
        stress.quarantine = quarantine;
        let backend = Synthetic::default();
        let counts = backend.counts.clone();
        let cache = Cache::with_backend(backend)
            .reclaimer(Reclaimer::Manual)
            .budget(u64::MAX)
            .generation_methods(LIMIT)
            .generation_age(Duration::from_secs(3600))
            .stress(stress)
            .build()
            .unwrap();
        let participants = (0..PARTICIPANTS).map(|p| Participant::new(&cache, p));
        Self {
            participants: participants.collect(),
            counts,
            keeps: Vec::new(),
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

    /// Ends the participants, with what they hold.
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
        let thread = std::thread::spawn(move || participate(&cache, p, &inbox, &outbox));
        // It has made itself a participant by the time it answers.
        replies.recv().expect("the participant begins");
        Self {
            commands: Some(commands),
            replies,
            thread: Some(thread),
        }
    }
}

/// The life of participant `p`.
fn participate(cache: &Cache<Code>, p: usize, inbox: &Receiver<Command>, outbox: &Sender<Reply>) {
    let me = cache.participant(format!("participant {p}"));
    let mut guards: Vec<Guard<'_>> = Vec::new();
    // Bare pointers, valid as long as the pin lasts.
    let mut held: Vec<(Code, Unary)> = Vec::new();
    let say = |reply| outbox.send(reply).is_ok();
    let mut heard = say(Reply::Done);
    while let (true, Ok(command)) = (heard, inbox.recv()) {
        heard = say(match command {
            Command::Pin => {
                guards.push(me.pin());
                Reply::Done
            }
            Command::Unpin => {
                guards.pop();
                if guards.is_empty() {
                    held.clear();
                }
                Reply::Done
            }
            Command::Repin => {
                if guards.len() == 1 {
                    held.clear();
                }
                guards.iter_mut().for_each(Guard::repin);
                Reply::Done
            }
            Command::Get(code) => {
                if guards.len() == 1 && !cache.is_resident(&code) {
                    held.clear();
                }
                match guards.last_mut() {
                    Some(guard) => get(cache, code, guard),
                    None => get(cache, code, &mut me.pin()),
                }
            }
            Command::Entry(code) => match guards.last() {
                Some(guard) => entry(cache, code, guard, Some(&mut held)),
                None => entry(cache, code, &me.pin(), None),
            },
            Command::CallHeld(i) => {
                let (_, pointer) = held[i];
                // SAFETY: the type is right, and the pin under which it was taken lasts.
                Reply::Returned(unsafe { pointer(X) })
            }
            Command::CallAddress(code) => {
                let _guard = me.pin();
                let address = method(cache, code).address();
                // SAFETY: the canonical address of a method of this type, on a pinned thread.
                Reply::Returned(unsafe { std::mem::transmute::<*const (), Unary>(address)(X) })
            }
        });
    }
}

fn get(cache: &Cache<Code>, code: Code, guard: &mut Guard<'_>) -> Reply {
    match method(cache, code).get(guard) {
        // SAFETY: the type is right.
        Ok(entry) => Reply::Returned(unsafe { entry.call(X) }),
        Err(error) => Reply::Failed(error),
    }
}

fn entry(
    cache: &Cache<Code>,
    code: Code,
    guard: &Guard<'_>,
    held: Option<&mut Vec<(Code, Unary)>>,
) -> Reply {
    let handle = method(cache, code);
    let Some(entry) = handle.entry(guard) else {
        return Reply::Nothing;
    };
    if let Some(held) = held {
        // SAFETY: called only while the guard's pin lasts.
        held.push((code, unsafe { entry.pointer() }));
    }
    // SAFETY: the type is right.
    Reply::Returned(unsafe { entry.call(X) })
}

impl Reply {
    /// It returned what the method returns.
    pub fn is_result_of(&self, code: Code) -> bool {
        matches!(self, Reply::Returned(y) if *y == code.result(X))
    }
}
