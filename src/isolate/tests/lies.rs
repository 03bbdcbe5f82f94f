//! Helpers that get ready as they should, and then do something else: each costs the job, and no more.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plain;
use crate::compile::OptLevel;
use crate::compile::llvm::Workshop;
use crate::config::Config;
use crate::error::Error;
use crate::isolate::channel::Channel;
use crate::isolate::wire::{Frame, Message};
use crate::isolate::{HelperFailure, Isolation, Part, Pool, VARIABLE};
use crate::tier::Tier;

/// The first words that a lying helper's name has.
const LIAR: &str = "inkpot-helper: liar ";

/// What it does when it is asked to compile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    Noise,
    Leaves,
    Absurd,
    OfAnother,
    Half,
    HalfAndNothing,
    ReadyAgain,
    Asks,
    Crashes,
    Twice,
    /// A right answer to the first question, and half of one to the second.
    HalfLater,
    /// A right answer with some bytes changed, by this number.
    Damaged(u64),
}

const LIES: [Lie; 11] = [
    Lie::Noise,
    Lie::Leaves,
    Lie::Absurd,
    Lie::OfAnother,
    Lie::Half,
    Lie::HalfAndNothing,
    Lie::ReadyAgain,
    Lie::Asks,
    Lie::Crashes,
    Lie::Twice,
    Lie::HalfLater,
];
const DAMAGED: std::ops::Range<u64> = 0..40;

impl Lie {
    fn number(self) -> u64 {
        let place = LIES.iter().position(|lie| *lie == self);
        match self {
            Lie::Damaged(n) => 100 + n,
            _ => place.expect("in the list") as u64,
        }
    }

    fn of(number: u64) -> Self {
        match number.checked_sub(100) {
            Some(n) => Lie::Damaged(n),
            None => LIES[number as usize],
        }
    }
}

/// What the object is, where one is said to be.
const OBJECT: &[u8] = b"an object";

/// If this is a process that a test here has started: lies, and never returns.
pub(super) fn lie_if_liar() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let name = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let number = name.trim_end_matches('\0').strip_prefix(LIAR);
    let Some(number) = number.and_then(|n| n.parse().ok()) else {
        return;
    };
    let _ = lie(Lie::of(number));
    std::process::exit(0);
}

fn lie(lie: Lie) -> Option<()> {
    let socket = std::io::stdin();
    let mut channel = Channel::new(socket.as_fd(), Duration::MAX);
    let identity = Workshop::identity().ok()?;
    channel.receive().ok()?;
    channel.send(&Message::Ready(identity.clone())).ok()?;
    let frame = channel.receive().ok()?;
    let Ok(Message::Compile { number, .. }) = frame.decode() else {
        return None;
    };
    let answer = |number| Message::Compiled {
        number,
        optimise: Duration::ZERO,
        generate: Duration::ZERO,
        object: OBJECT,
    };
    let encoded = answer(number).encode();
    let mut bytes = [&encoded.head, encoded.tail].concat();
    match lie {
        Lie::Noise => channel
            .write_all(b"warning: something that a library has to say\n")
            .ok()?,
        Lie::Leaves => {}
        Lie::Absurd => {
            bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
            channel.write_all(&bytes).ok()?;
        }
        Lie::OfAnother => channel.send(&answer(number + 1)).ok()?,
        Lie::Half => channel.write_all(&bytes[..bytes.len() / 2]).ok()?,
        Lie::HalfAndNothing => {
            channel.write_all(&bytes[..bytes.len() / 2]).ok()?;
            channel.receive().ok()?;
        }
        Lie::HalfLater => {
            channel.send(&answer(number)).ok()?;
            channel.receive().ok()?;
            channel.write_all(&bytes[..bytes.len() / 2]).ok()?;
        }
        Lie::ReadyAgain => channel.send(&Message::Ready(identity)).ok()?,
        Lie::Asks => {
            let levels = Vec::new();
            channel.send(&Message::Begin { memory: 0, levels }).ok()?;
        }
        // SAFETY: ends the process.
        Lie::Crashes => unsafe {
            libc::raise(libc::SIGSEGV);
        },
        Lie::Twice => {
            channel.send(&answer(number)).ok()?;
            channel.send(&answer(number)).ok()?;
            channel.receive().ok()?;
        }
        Lie::Damaged(n) => {
            let mut random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for _ in 0..1 + n % 3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = random as usize % bytes.len();
                bytes[at] ^= (random >> 32) as u8;
            }
            channel.write_all(&bytes).ok()?;
        }
    }
    Some(())
}

fn liars(lie: Lie) -> Arc<Pool> {
    let config = Config {
        name: format!("liar {}", lie.number()),
        tiers: vec![Tier::new("only", OptLevel::O0)],
        ..Config::default()
    };
    // Some wait for what never comes; the others answer at once, on a busy machine too.
    let patience = match lie {
        Lie::HalfAndNothing | Lie::Damaged(_) => Duration::from_millis(500),
        _ => Duration::from_secs(10),
    };
    let isolation = Isolation::own_executable().time_limit(patience);
    Pool::start(isolation, &config).expect("a helper")
}

fn ask(pool: &Pool, part: Part) -> Result<Vec<u8>, HelperFailure> {
    let job = plain("");
    match pool.compile(&job, b"a module", part) {
        Ok(made) => Ok(made.object),
        Err(Error::Isolated { failure, .. }) => Err(failure),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn lies_are_found_out() {
    for lie in LIES {
        let pool = liars(lie);
        let started = Instant::now();
        let outcome = ask(&pool, Part::Batch(0));
        let garbled = |says| match &outcome {
            Err(HelperFailure::Garbled { problem }) => assert!(problem.contains(says), "{problem}"),
            other => panic!("{lie:?}: {other:?}"),
        };
        match lie {
            Lie::Noise => garbled("it wrote \"warning: somethi"),
            Lie::Absurd => garbled("announced"),
            Lie::OfAnother | Lie::ReadyAgain | Lie::Asks => garbled("another question"),
            Lie::Half | Lie::Leaves => assert!(
                matches!(&outcome, Err(HelperFailure::Died { status: Some(s), .. }) if s.success()),
                "{outcome:?}"
            ),
            Lie::Crashes => assert!(
                matches!(&outcome, Err(HelperFailure::Died { status: Some(s), .. }) if !s.success()),
                "{outcome:?}"
            ),
            Lie::HalfAndNothing => assert!(
                matches!(outcome, Err(HelperFailure::TimedOut { .. })),
                "{outcome:?}"
            ),
            Lie::Twice => {
                assert_eq!(outcome.as_deref(), Ok(OBJECT));
                // What it said besides is heard before the next question, or is no answer to it.
                let next = ask(&pool, Part::Batch(0));
                let refused = matches!(&next, Err(HelperFailure::Garbled { .. }));
                assert!(refused || next.as_deref() == Ok(OBJECT), "{next:?}");
                assert_eq!(pool.counts(), (2, u64::from(refused)));
                continue;
            }
            Lie::HalfLater => {
                assert_eq!(outcome.as_deref(), Ok(OBJECT));
                // A method by itself is asked for again, of a helper that has done nothing before.
                assert_eq!(ask(&pool, Part::Alone).as_deref(), Ok(OBJECT));
                let next = ask(&pool, Part::Batch(0));
                assert!(matches!(next, Err(HelperFailure::Died { .. })), "{next:?}");
                assert_eq!(pool.counts(), (3, 2));
                continue;
            }
            Lie::Damaged(_) => unreachable!("not in the list"),
        }
        assert!(started.elapsed() < Duration::from_secs(15), "{lie:?}");
        assert_eq!(pool.counts(), (2, 1), "{lie:?}");
    }
}

#[test]
fn damaged_answers_are_no_panic() {
    let mut believed = 0;
    for n in DAMAGED {
        match ask(&liars(Lie::Damaged(n)), Part::Batch(0)) {
            // Its object, or a time: what nobody can check. The linker is shown damaged objects elsewhere.
            Ok(_) => believed += 1,
            // Of a length that was made larger it is an end too early.
            Err(
                HelperFailure::Garbled { .. }
                | HelperFailure::TimedOut { .. }
                | HelperFailure::Died { .. },
            ) => {}
            Err(other) => panic!("{n}: {other}"),
        }
    }
    assert!(believed < DAMAGED.end, "no damage is noticed");
}

/// The host's side of a helper whose host lies. Nothing of it is a panic, or a signal.
#[test]
fn a_helper_bears_any_host() {
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    let own = std::env::current_exe().expect("a path");
    let mut random = 0x1234_5678_9abc_def1u64;
    let mut complained = 0;
    for round in 0..30 {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let mut child = {
            let stdin = std::os::fd::OwnedFd::from(theirs);
            let asked = format!("{} {}", crate::isolate::wire::PROTOCOL, std::process::id());
            Command::new(&own)
                .env(VARIABLE, asked)
                .stdin(Stdio::from(stdin))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it runs")
        };
        let levels = vec![OptLevel::O0];
        let begin = Message::Begin {
            memory: u64::MAX,
            levels,
        }
        .encode()
        .head;
        let mut noise: Vec<u8> = (0..200)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        match round % 3 {
            0 => {}
            // A header that is right but for its kind, and lengths inside that are anything.
            1 => {
                let length = (noise.len() - 16) as u64;
                noise[..4].copy_from_slice(b"ikpt");
                noise[4..8].copy_from_slice(&(1 + round / 3 % 6u32).to_le_bytes());
                noise[8..16].copy_from_slice(&length.to_le_bytes());
            }
            _ => {
                ours.write_all(&begin).expect("it is there");
                Frame::receive(&mut ours).expect("it is ready");
            }
        }
        // It may have gone before it has all.
        let _ = ours.write_all(&noise);
        for _ in 0..50 {
            if child.try_wait().expect("ours").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // If it waits for more.
        let _ = ours.shutdown(std::net::Shutdown::Write);
        let said = std::io::read_to_string(child.stderr.take().expect("piped")).expect("text");
        let status = child.wait().expect("ours");
        assert!(
            matches!(status.code(), Some(0 | 3)),
            "{round}: {status}, {said}"
        );
        complained += i32::from(status.code() == Some(3) && said.contains("of the host"));
    }
    assert!(complained > 20, "{complained} of 30 were refused");
}
