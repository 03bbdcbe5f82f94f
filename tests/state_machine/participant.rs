//! A participant's thread: it takes commands, in its own loop, inside of methods, and in `blocking`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use inkpot::{Cache, Entry, Error, Guard, Lease, Participant};

use crate::model::{CALLED_BY_FIBRES, HELD, RESUMES};
use crate::support::fibre::Fibre;
use crate::support::synthetic::{Code, Unary, inside, method};

/// What every call passes.
pub const X: i64 = 1000;

/// Of every other method by its key alone.
fn entry<'g>(cache: &Cache<Code>, code: Code, guard: &'g Guard<'_>) -> Option<Entry<'g, Unary>> {
    match code.n.is_multiple_of(2) {
        true => method(cache, code).entry(guard),
        // SAFETY: all synthetic methods have this type, and to compare their keys calls nothing.
        false => unsafe { cache.entry(&code, guard) },
    }
}

pub enum Command {
    Pin,
    Unpin,
    Repin,
    /// Re-pins if that does anything, or else comes to a safepoint.
    Refresh,
    Safepoint,
    SafepointByGuard,
    Get(Code),
    Entry(Code),
    CallHeld(usize),
    CallAddress(Code),
    Enter(Code),
    Block,
    BlockByGuard,
    Out,
    Spawn(Code),
    Resume(Fibre),
    Lease(Code),
    CallLease(Arc<Lease<Unary>>),
}

/// What became of a command.
pub enum Reply {
    Done,
    /// There was no code.
    Nothing,
    /// A method returned this.
    Returned(i64),
    Failed(Error),
    Suspended(Fibre),
    Leased(Lease<Unary>),
}

impl Reply {
    /// It returned what the method returns.
    pub fn is_result_of(&self, code: Code) -> bool {
        matches!(self, Reply::Returned(y) if *y == code.result(X))
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Done => f.write_str("done"),
            Reply::Nothing => f.write_str("nothing"),
            Reply::Returned(y) => write!(f, "{y}"),
            Reply::Failed(error) => write!(f, "{error}"),
            Reply::Suspended(_) => f.write_str("a fibre"),
            Reply::Leased(lease) => write!(f, "{lease:?}"),
        }
    }
}

/// What a participant is, wherever it is.
pub struct Life<'a> {
    pub cache: &'a Cache<Code>,
    pub me: &'a Participant,
    pub inbox: Receiver<Command>,
    pub outbox: Sender<Reply>,
}

/// Where it takes commands.
struct Place<'a> {
    life: &'a Life<'a>,
    /// Guards of the places around it, up to the next `blocking`.
    outside: usize,
    guards: Vec<Guard<'a>>,
    /// Bare pointers, valid as long as the pin lasts. On the stack, where safepoints find them.
    held: [Option<Unary>; HELD],
}

impl Life<'_> {
    fn say(&self, reply: Reply) {
        // Nobody hears it once the test has failed.
        let _ = self.outbox.send(reply);
    }

    /// Does what it is told, until it is told to go back, or nobody tells it any more.
    pub fn stay(&self, outside: usize) {
        let mut place = Place {
            life: self,
            outside,
            guards: Vec::new(),
            held: [None; HELD],
        };
        while let Ok(command) = self.inbox.recv() {
            let reply = match command {
                Command::Out => return,
                command => place.obey(command),
            };
            self.say(reply);
        }
    }
}

impl Place<'_> {
    fn obey(&mut self, command: Command) -> Reply {
        let Life { cache, me, .. } = *self.life;
        match command {
            Command::Get(code) => {
                self.before_waiting(code);
                match self.guards.last_mut() {
                    Some(guard) => get(cache, code, guard),
                    None => get(cache, code, &mut me.pin()),
                }
            }
            Command::Entry(code) => self.entry(code),
            Command::CallHeld(i) => {
                let pointer = self.held[i].expect("kept before");
                // SAFETY: the type is right, and the pin under which it was taken lasts.
                Reply::Returned(unsafe { pointer(X) })
            }
            Command::CallAddress(code) => {
                let _guard = me.pin();
                // SAFETY: on a pinned thread.
                Reply::Returned(unsafe { call_address(cache, code) })
            }
            Command::Enter(code) => self.enter(code),
            Command::Spawn(code) => self.spawn(code),
            Command::Resume(fibre) => resume(fibre, me),
            Command::Lease(code) => {
                self.before_waiting(code);
                let handle = method(cache, code);
                let lease = match self.guards.last_mut() {
                    Some(guard) => handle.lease(guard),
                    None => handle.lease(&mut me.pin()),
                };
                lease.map_or_else(Reply::Failed, Reply::Leased)
            }
            Command::CallLease(lease) => {
                let guard = me.pin();
                // SAFETY: the type is right.
                Reply::Returned(unsafe { lease.entry(&guard).call(X) })
            }
            command => self.move_about(command),
        }
    }

    /// Pins, safepoints, and what blocks.
    fn move_about(&mut self, command: Command) -> Reply {
        let me = self.life.me;
        match command {
            Command::Pin => self.guards.push(me.pin()),
            Command::Unpin => {
                self.guards.pop();
                if self.guards() == 0 {
                    self.forget();
                }
            }
            Command::Refresh if !self.is_alone() => {
                // SAFETY: what is used afterwards is on the stack.
                unsafe { me.safepoint() };
            }
            Command::Repin | Command::Refresh => {
                self.end_quantum();
                self.guards.iter_mut().for_each(Guard::repin);
            }
            Command::SafepointByGuard => {
                self.end_quantum();
                self.guards.iter_mut().for_each(Guard::safepoint);
            }
            // SAFETY: what is used afterwards is on the stack.
            Command::Safepoint => unsafe { me.safepoint() },
            Command::Block => {
                let life = self.life;
                // SAFETY: as above; in `stay` the thread pins anew.
                unsafe {
                    me.blocking(|| {
                        life.say(Reply::Done);
                        life.stay(0);
                    });
                }
            }
            Command::BlockByGuard => {
                self.end_quantum();
                let life = self.life;
                let guard = self.guards.last_mut().expect("by precondition");
                let blocked = guard.blocking(|| {
                    life.say(Reply::Done);
                    life.stay(0);
                });
                if let Err(error) = blocked {
                    return Reply::Failed(error);
                }
            }
            _ => unreachable!("obeyed elsewhere"),
        }
        Reply::Done
    }

    /// Guards since the innermost `blocking` began.
    fn guards(&self) -> usize {
        self.outside + self.guards.len()
    }

    fn is_alone(&self) -> bool {
        self.outside == 0 && self.guards.len() == 1
    }

    fn forget(&mut self) {
        self.held = [None; HELD];
    }

    /// Something that ends what was loaded, if there is no other guard.
    fn end_quantum(&mut self) {
        if self.is_alone() {
            self.forget();
        }
    }

    /// A wait for this method, if it has no code, is such a thing.
    fn before_waiting(&mut self, code: Code) {
        if !self.life.cache.is_resident(&code) {
            self.end_quantum();
        }
    }

    fn entry(&mut self, code: Code) -> Reply {
        let cache = self.life.cache;
        let Some(guard) = self.guards.last() else {
            return match entry(cache, code, &self.life.me.pin()) {
                // SAFETY: the type is right.
                Some(entry) => Reply::Returned(unsafe { entry.call(X) }),
                None => Reply::Nothing,
            };
        };
        let Some(entry) = entry(cache, code, guard) else {
            return Reply::Nothing;
        };
        if let Some(free) = self.held.iter_mut().find(|h| h.is_none()) {
            // SAFETY: called only while the guard's pin lasts, and kept on the stack.
            *free = Some(unsafe { entry.pointer() });
        }
        // SAFETY: the type is right.
        Reply::Returned(unsafe { entry.call(X) })
    }

    /// The bare pointer of a resident method.
    fn pointer(&self, code: Code) -> Option<Unary> {
        let guard = self.guards.last().expect("by precondition");
        // The handle is not kept: it would keep the method.
        let handle = method(self.life.cache, code);
        let entry = handle.entry(guard)?;
        // SAFETY: it is called before anything else happens.
        Some(unsafe { entry.pointer() })
    }

    fn enter(&mut self, code: Code) -> Reply {
        let Some(pointer) = self.pointer(code) else {
            return Reply::Nothing;
        };
        let life = self.life;
        let outside = self.guards();
        let stay = || {
            life.say(Reply::Done);
            life.stay(outside);
        };
        // SAFETY: the type is right, and the thread pinned, by a guard that stays where it is.
        let y = inside(stay, || unsafe { pointer(X) });
        assert_eq!(y, code.result(X));
        Reply::Returned(y)
    }

    fn spawn(&self, code: Code) -> Reply {
        let Some(pointer) = self.pointer(code) else {
            return Reply::Nothing;
        };
        let cache = self.life.cache.clone();
        let fibre = Fibre::new(move |fibre| {
            let errand = || {
                for _ in 0..RESUMES {
                    fibre.pause();
                    let code = CALLED_BY_FIBRES;
                    // SAFETY: who resumes is pinned.
                    let y = unsafe { call_address(&cache, code) };
                    assert_eq!(y, code.result(X));
                    // SAFETY: nothing is used afterwards but the frame below.
                    unsafe { fibre.me().safepoint() };
                }
            };
            // SAFETY: the type is right, and who resumes is pinned.
            let y = inside(errand, || unsafe { pointer(X) });
            assert_eq!(y, code.result(X));
            y
        });
        resume(fibre, self.life.me)
    }
}

fn resume(mut fibre: Fibre, me: &Participant) -> Reply {
    match fibre.resume(me) {
        Some(y) => Reply::Returned(y),
        None => Reply::Suspended(fibre),
    }
}

fn get(cache: &Cache<Code>, code: Code, guard: &mut Guard<'_>) -> Reply {
    let handle = method(cache, code);
    let entry = match code.n.is_multiple_of(2) {
        true => handle.get(guard),
        false => handle.get_timeout(guard, Duration::from_secs(60)),
    };
    match entry {
        // SAFETY: the type is right.
        Ok(entry) => Reply::Returned(unsafe { entry.call(X) }),
        Err(error) => Reply::Failed(error),
    }
}

/// # Safety
/// The thread is pinned.
unsafe fn call_address(cache: &Cache<Code>, code: Code) -> i64 {
    let address = method(cache, code).address();
    // SAFETY: the canonical address of a method of this type; the caller's promise.
    unsafe { std::mem::transmute::<*const (), Unary>(address)(X) }
}
