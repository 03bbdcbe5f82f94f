//! The host's end of a helper process.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::channel::Channel;
use super::child::{Child, Ended};
use super::wire::{Asked, Broken, Frame, Identity, Message, PROTOCOL};
use super::{Helper, HelperFailure, Isolation, OUT_OF_MEMORY, Part, VARIABLE};
use crate::compile::OptLevel;
use crate::compile::llvm::{Job, Made, measurable};

/// How long a helper may take to get ready: a second on a machine that does much else.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that are kept of what a helper wrote to its standard error at last.
const SAID: u64 = 4 << 10;

/// What others may do to a process that its owner waits for.
pub(super) struct Link {
    socket: OwnedFd,
    child: Arc<Child>,
    /// The process that started it. A forked child of that has this in memory too, but no business with it.
    host: u32,
}

impl Link {
    /// Ends the process. Who waits for what it says stops waiting.
    pub(super) fn kill(&self) {
        if self.host != std::process::id() {
            return;
        }
        self.child.kill();
        // A copy of the socket may be in a forked child of ours, so to close ours alone says nothing.
        // SAFETY: no preconditions.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// A helper process, of one owner at a time. It ends when this is dropped, and is waited for.
pub(super) struct Process {
    link: Arc<Link>,
    /// Its standard error: memory of the system's.
    said: File,
    ready: bool,
    /// Modules that it was given.
    pub(super) jobs: u64,
}

/// How a job failed: by what LLVM said against the module, or because the process did.
pub(super) enum Failed {
    Refused(String),
    Process(HelperFailure),
}

impl Process {
    /// Starts a process, and does not wait for it.
    pub(super) fn start(
        isolation: &Isolation,
        name: &str,
        levels: &[OptLevel],
    ) -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let said = memory_file()?;
        let program = match &isolation.helper {
            // The link leads to the file that runs, also when another has its name by now, or none has.
            Helper::OwnExecutable => Path::new("/proc/self/exe"),
            Helper::Binary(path) => path,
        };
        let host = std::process::id();
        // A group of its own: what a terminal sends to all of the host's is not for the helper, which ends
        // when the host does. Nothing here makes the library fork, so no handler of forks runs.
        let child = Command::new(program)
            .arg0(format!("inkpot-helper: {name}"))
            .env(VARIABLE, format!("{PROTOCOL} {host}"))
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(said.try_clone()?))
            .process_group(0)
            .spawn()?;
        let mut started = Self {
            link: Arc::new(Link {
                socket: ours.into(),
                child: Arc::new(Child::new(child.id())),
                host,
            }),
            said,
            ready: false,
            jobs: 0,
        };
        let begin = Message::Begin {
            memory: isolation.memory_limit,
            levels: levels.to_vec(),
        };
        // What is wrong with it is seen when its answer is read.
        let _ = started.channel(READY_WITHIN).send(&begin);
        Ok(started)
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn channel(&mut self, patience: Duration) -> Channel<'_> {
        Channel::new(self.link.socket.as_fd(), patience)
    }

    /// Waits until it is ready, and makes sure that it would do as this process does. An error says what
    /// is wrong.
    pub(super) fn get_ready(&mut self, ours: &Identity, memory_limit: u64) -> Result<(), String> {
        if self.ready {
            return Ok(());
        }
        let answer = self.channel(READY_WITHIN).receive();
        let problem = match understood(&answer) {
            Ok(Message::Ready(theirs)) => match ours.difference(&theirs) {
                None => {
                    self.ready = true;
                    return Ok(());
                }
                Some(difference) => difference,
            },
            Ok(_) => "it answered something else than that it is ready".to_owned(),
            Err(Broken::Garbled(problem)) => {
                format!("it is no helper, or another version's: {problem}")
            }
            Err(Broken::Ended) => {
                let failure = self.death(memory_limit);
                return Err(format!("it did not get ready: {failure}"));
            }
            Err(Broken::TimedOut) => format!("it was not ready within {READY_WITHIN:?}"),
        };
        self.link.kill();
        Err(problem)
    }

    /// Whether it was ready, and has ended, or talks by itself.
    pub(super) fn is_gone(&mut self) -> bool {
        let mut byte = [0];
        let heard = self.channel(Duration::ZERO).read(&mut byte);
        !matches!(heard, Err(e) if e.kind() == std::io::ErrorKind::TimedOut)
    }

    /// Has a module compiled. After a failure of the process it is of no more use.
    pub(super) fn compile(
        &mut self,
        isolation: &Isolation,
        job: &Job<'_>,
        bitcode: &[u8],
        part: Part,
    ) -> Result<Made, Failed> {
        self.jobs += 1;
        let number = self.jobs;
        let ask = Message::Compile {
            number,
            asked: Asked::of(job),
            bitcode,
        };
        let limit = isolation.limit_for(part);
        let mut channel = self.channel(limit);
        let answer = channel.send(&ask).and_then(|()| channel.receive());
        let failure = match understood(&answer) {
            Ok(Message::Compiled {
                number: n,
                optimise,
                generate,
                object,
            }) if n == number => {
                return Ok(Made {
                    object: measurable(object),
                    optimise,
                    generate,
                });
            }
            Ok(Message::Refused { number: n, said }) if n == number => {
                return Err(Failed::Refused(said));
            }
            Ok(_) => HelperFailure::Garbled {
                problem: "its answer was to another question".to_owned(),
            },
            Err(Broken::Garbled(problem)) => HelperFailure::Garbled { problem },
            Err(Broken::TimedOut) => HelperFailure::TimedOut { limit },
            Err(Broken::Ended) => self.death(isolation.memory_limit),
        };
        self.link.kill();
        Err(Failed::Process(failure))
    }

    /// What a process died of that closed its socket.
    fn death(&self, memory_limit: u64) -> HelperFailure {
        // It may be on its way, or live on without a socket.
        let ended = self.link.child.wait().or_else(|| {
            self.link.kill();
            self.link.child.wait()
        });
        let said = self.last_words();
        if OUT_OF_MEMORY.iter().any(|words| said.contains(words)) {
            return HelperFailure::OutOfMemory {
                limit: Some(memory_limit).filter(|limit| *limit != u64::MAX),
            };
        }
        let status = match ended {
            Some(Ended::With(status)) => Some(status),
            Some(Ended::Unknown) | None => None,
        };
        HelperFailure::Died { status, said }
    }

    /// The end of what it wrote to its standard error.
    fn last_words(&self) -> String {
        let length = self.said.metadata().map_or(0, |m| m.len());
        let begin = length.saturating_sub(SAID);
        let mut bytes = vec![0; (length - begin) as usize];
        let read = self.said.read_at(&mut bytes, begin).unwrap_or(0);
        bytes.truncate(read);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.link.host == std::process::id() {
            self.link.kill();
            if self.link.child.wait().is_none() {
                self.link.child.reap_later();
            }
        }
    }
}

fn understood(answer: &Result<Frame, Broken>) -> Result<Message<'_>, Broken> {
    answer
        .as_ref()
        .map_err(Clone::clone)
        .and_then(Frame::decode)
}

/// A file in memory, which closes when the process executes another.
fn memory_file() -> std::io::Result<File> {
    // SAFETY: the name is a C string; the descriptor, if it is one, is nobody else's.
    unsafe {
        let file = libc::memfd_create(c"inkpot-helper".as_ptr(), libc::MFD_CLOEXEC);
        match file {
            -1 => Err(std::io::Error::last_os_error()),
            file => Ok(File::from_raw_fd(file)),
        }
    }
}
