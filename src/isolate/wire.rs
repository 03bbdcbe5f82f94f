//! What a host and its helper say to each other.
//!
//! Frames: a magic number, the kind of message, the length of what follows. Both sides take what they hear
//! for damaged until it is shown to be whole: nothing is believed of a length but its limit, and no
//! memory is reserved for more than has come.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use crate::compile::OptLevel;
use crate::compile::llvm::{Counting, Job};

/// To be raised whenever a message changes.
pub(super) const PROTOCOL: u32 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"ikpt");
const HEADER: usize = 16;

/// The longest message: an object larger than that could not be linked.
const LONGEST: u64 = 2 << 30;
/// A length up to which memory is reserved before anything has come.
const BELIEVED: u64 = 1 << 20;

/// Why nothing was understood.
#[derive(Clone, Debug)]
pub(super) enum Broken {
    /// The other side has gone, perhaps in the middle of a message.
    Ended,
    /// It took too long.
    TimedOut,
    /// It said something else than it should.
    Garbled(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut => Broken::TimedOut,
            // Whatever else happens to a socket, nobody can be reached by it any more.
            _ => Broken::Ended,
        }
    }
}

fn garbled<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Garbled(what.into()))
}

/// What must be the same on both sides, if objects are to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The protocol's number and inkpot's version.
    pub(crate) inkpot: String,
    /// LLVM's version, with the number by which the program was linked.
    pub(crate) llvm: String,
    pub(crate) triple: String,
    pub(crate) cpu: String,
    pub(crate) features: String,
}

impl Identity {
    /// What of the other side is different, and how.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let fields = |i: &Self| {
            [
                ("inkpot", i.inkpot.clone()),
                ("LLVM", i.llvm.clone()),
                ("target", i.triple.clone()),
                ("processor", i.cpu.clone()),
                ("processor's features", i.features.clone()),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(other));
        pairs
            .filter(|((_, ours), (_, theirs))| ours != theirs)
            .map(|((what, ours), (_, theirs))| format!("its {what} is {theirs}, ours {ours}"))
            .next()
    }
}

/// One message. Objects and bitcode stand at the end of theirs, and are not copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message<'m> {
    /// The first, by the host: bytes of memory that the helper may take (`u64::MAX`: any number), and
    /// levels at which it shall warm up.
    Begin { memory: u64, levels: Vec<OptLevel> },
    /// The answer: ready.
    Ready(Identity),
    /// A module to be compiled.
    Compile {
        number: u64,
        asked: Asked<'m>,
        bitcode: &'m [u8],
    },
    /// What came of it: an object.
    Compiled {
        number: u64,
        optimise: Duration,
        generate: Duration,
        object: &'m [u8],
    },
    /// What came of it: LLVM's words against it.
    Refused { number: u64, said: String },
}

/// A message that was received: its kind, and the rest.
pub(super) struct Frame {
    kind: u32,
    payload: Vec<u8>,
}

/// A message ready to be sent: the header and all but what stands at the end, and that.
pub(super) struct Outgoing<'m> {
    pub(super) head: Vec<u8>,
    pub(super) tail: &'m [u8],
}

impl<'m> Message<'m> {
    pub(super) fn encode(&self) -> Outgoing<'m> {
        let mut fields = Vec::new();
        let (kind, tail): (u32, &[u8]) = match self {
            Message::Begin { memory, levels } => {
                number(&mut fields, *memory);
                number(&mut fields, levels.len() as u64);
                fields.extend(levels.iter().map(|level| *level as u8));
                (1, &[])
            }
            Message::Ready(identity) => {
                let Identity {
                    inkpot,
                    llvm,
                    triple,
                    cpu,
                    features,
                } = identity;
                for text in [inkpot, llvm, triple, cpu, features] {
                    string(&mut fields, text);
                }
                (2, &[])
            }
            Message::Compile {
                number: n,
                asked,
                bitcode,
            } => {
                number(&mut fields, *n);
                asked.encode(&mut fields);
                (3, bitcode)
            }
            Message::Compiled {
                number: n,
                optimise,
                generate,
                object,
            } => {
                number(&mut fields, *n);
                number(&mut fields, nanoseconds(*optimise));
                number(&mut fields, nanoseconds(*generate));
                (4, object)
            }
            Message::Refused { number: n, said } => {
                number(&mut fields, *n);
                string(&mut fields, said);
                (5, &[])
            }
        };
        let mut head = Vec::with_capacity(HEADER + fields.len());
        head.extend(MAGIC.to_le_bytes());
        head.extend(kind.to_le_bytes());
        number(&mut head, (fields.len() + tail.len()) as u64);
        head.extend(fields);
        Outgoing { head, tail }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn number(to: &mut Vec<u8>, n: u64) {
    to.extend(n.to_le_bytes());
}

fn string(to: &mut Vec<u8>, text: &str) {
    number(to, text.len() as u64);
    to.extend(text.as_bytes());
}

impl Frame {
    /// Waits for the next message.
    pub(super) fn receive(from: &mut impl Read) -> Result<Self, Broken> {
        let mut header = Vec::with_capacity(HEADER);
        from.take(HEADER as u64).read_to_end(&mut header)?;
        // In the middle of a message is an end as any other.
        let magic = MAGIC.to_le_bytes();
        if header.len() < HEADER && header.iter().zip(magic).all(|(is, shall)| *is == shall) {
            return Err(Broken::Ended);
        }
        let mut fields = Fields(&header);
        let said = || garbled(format!("it wrote {:?}", String::from_utf8_lossy(&header)));
        let (Ok(magic), Ok(kind), Ok(length)) = (fields.word(), fields.word(), fields.number())
        else {
            return said();
        };
        if magic != MAGIC {
            return said();
        }
        if length > LONGEST {
            return garbled(format!("it announced a message of {length} bytes"));
        }
        let mut payload = Vec::with_capacity(length.min(BELIEVED) as usize);
        let came = from.take(length).read_to_end(&mut payload)?;
        if (came as u64) < length {
            return Err(Broken::Ended);
        }
        Ok(Self { kind, payload })
    }

    /// Understands it.
    pub(super) fn decode(&self) -> Result<Message<'_>, Broken> {
        let mut fields = Fields(&self.payload);
        let message = match self.kind {
            1 => Message::Begin {
                memory: fields.number()?,
                levels: {
                    let many = fields.number()?;
                    let levels = fields.bytes(many)?;
                    levels
                        .iter()
                        .map(|l| level_of(*l))
                        .collect::<Result<_, _>>()?
                },
            },
            2 => Message::Ready(Identity {
                inkpot: fields.string()?.to_owned(),
                llvm: fields.string()?.to_owned(),
                triple: fields.string()?.to_owned(),
                cpu: fields.string()?.to_owned(),
                features: fields.string()?.to_owned(),
            }),
            3 => Message::Compile {
                number: fields.number()?,
                asked: Asked::decode(&mut fields)?,
                bitcode: fields.rest(),
            },
            4 => Message::Compiled {
                number: fields.number()?,
                optimise: Duration::from_nanos(fields.number()?),
                generate: Duration::from_nanos(fields.number()?),
                object: fields.rest(),
            },
            5 => Message::Refused {
                number: fields.number()?,
                said: fields.string()?.to_owned(),
            },
            kind => return garbled(format!("it sent a message of the kind {kind}")),
        };
        match fields.0 {
            [] => Ok(message),
            more => garbled(format!("its message is {} bytes too long", more.len())),
        }
    }
}

fn level_of(byte: u8) -> Result<OptLevel, Broken> {
    let known = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];
    match known.into_iter().find(|known| *known as u8 == byte) {
        Some(level) => Ok(level),
        None => garbled(format!("it said {byte} for a level")),
    }
}

/// A [`Job`], as it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked<'m> {
    passes: &'m str,
    level: OptLevel,
    imports: bool,
    pool_constants: bool,
    polls: bool,
    separable: bool,
    /// Whether bytes in front of functions begin with ENDBR64.
    branch_targets: bool,
    /// The threshold, where threads have their tables, and the stub.
    counting: Option<(u32, i64, u64)>,
    /// Methods that count.
    counted: Cow<'m, [(u32, u64)]>,
}

impl<'m> Asked<'m> {
    pub(super) fn of(job: &Job<'m>) -> Self {
        Self {
            passes: job.passes,
            level: job.level,
            imports: job.imports,
            pool_constants: job.pool_constants,
            polls: job.polls,
            separable: job.separable,
            branch_targets: job.counting.is_some_and(|c| c.branch_targets),
            counting: job.counting.map(|c| (c.threshold, c.table, c.stub)),
            counted: Cow::Borrowed(job.counting.map_or(&[], |c| c.methods)),
        }
    }

    pub(super) fn job(&self) -> Job<'_> {
        Job {
            passes: self.passes,
            level: self.level,
            imports: self.imports,
            pool_constants: self.pool_constants,
            polls: self.polls,
            separable: self.separable,
            counting: self.counting.map(|(threshold, table, stub)| Counting {
                threshold,
                table,
                stub,
                by_bytes: true,
                branch_targets: self.branch_targets,
                methods: &self.counted,
            }),
        }
    }

    fn encode(&self, fields: &mut Vec<u8>) {
        string(fields, self.passes);
        fields.push(self.level as u8);
        let counts = self.counting.is_some();
        let flags = [
            self.imports,
            self.pool_constants,
            self.polls,
            self.separable,
            self.branch_targets,
            counts,
        ];
        fields.extend(flags.map(u8::from));
        if let Some((threshold, table, stub)) = self.counting {
            fields.extend(threshold.to_le_bytes());
            fields.extend(table.to_le_bytes());
            number(fields, stub);
            number(fields, self.counted.len() as u64);
            for (cell, method) in self.counted.iter() {
                fields.extend(cell.to_le_bytes());
                number(fields, *method);
            }
        }
    }

    fn decode(fields: &mut Fields<'m>) -> Result<Self, Broken> {
        let mut asked = Self {
            passes: fields.string()?,
            level: level_of(fields.array::<1>()?[0])?,
            imports: fields.flag()?,
            pool_constants: fields.flag()?,
            polls: fields.flag()?,
            separable: fields.flag()?,
            branch_targets: fields.flag()?,
            counting: None,
            counted: Cow::Borrowed(&[]),
        };
        if fields.flag()? {
            let (threshold, table) = (fields.word()?, fields.number()? as i64);
            asked.counting = Some((threshold, table, fields.number()?));
            let many = fields.number()?;
            let mut fields = Fields(fields.bytes(many.saturating_mul(COUNTED))?);
            let mut pair = || Ok((fields.word()?, fields.number()?));
            let counted: Result<Vec<_>, Broken> = (0..many).map(|_| pair()).collect();
            asked.counted = counted?.into();
        }
        Ok(asked)
    }
}

/// Bytes for a method that counts.
const COUNTED: u64 = 12;

/// What is left to be read of a message.
struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    fn bytes(&mut self, many: u64) -> Result<&'m [u8], Broken> {
        let split = usize::try_from(many)
            .ok()
            .and_then(|many| self.0.split_at_checked(many));
        let Some((taken, rest)) = split else {
            return garbled("its message is too short");
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let bytes = self.bytes(N as u64)?;
        Ok(bytes.try_into().expect("as many as were asked for"))
    }

    fn word(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    fn number(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<&'m str, Broken> {
        let length = self.number()?;
        match std::str::from_utf8(self.bytes(length)?) {
            Ok(text) => Ok(text),
            Err(_) => garbled("a text of its message is none"),
        }
    }

    fn flag(&mut self) -> Result<bool, Broken> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => garbled(format!("it said {other} for yes or no")),
        }
    }

    fn rest(&mut self) -> &'m [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests;
