//! Plays the processor: runs the code that `synthetic` emits, thunks, and what these lead to, in memory that is made up.
//!
//! Every instruction is looked at before it is run: its page is there and can be run, and it is the same mapping that
//! was there when the frame began. Return addresses are on the thread's simulated stack, for safepoints to find.

use inkpot::__simulation::{memory, resolve, resolver, stack, world};
use inkpot::Error;

use crate::synthetic::host;

/// Where a call from outside returns to.
const OUTSIDE: u64 = 0;
/// Instructions of one call, at most.
const MOST: u32 = 10_000;

/// What the code meets outside of itself.
pub struct Outside<'a> {
    /// Before a cell is read: what may be found in it from now on is as new as what is noted here.
    pub looks: &'a mut dyn FnMut(),
    /// A method of this stamp begins.
    pub begins: &'a mut dyn FnMut(u32),
    /// The host function does this first.
    pub errand: &'a mut dyn FnMut(),
    /// The fallback's address, and what it returns for a word and an argument.
    pub fallback: (u64, &'a dyn Fn(u64, i64) -> i64),
    /// The failure entry's address.
    pub failure: u64,
}

/// How a call ended otherwise than by returning.
#[derive(Debug)]
pub enum Ended {
    /// A callee has no code, for this reason.
    Failed(Error),
    /// A promise is broken; the world has been told.
    Broken,
}

struct Frame {
    /// The mapping that its code is in.
    serial: u64,
    /// Words that it has on the stack.
    words: usize,
}

struct Processor<'a, 'b> {
    outside: &'a mut Outside<'b>,
    at: u64,
    rax: u64,
    rdi: u64,
    r10: u64,
    r11: u64,
    frames: Vec<Frame>,
}

/// Calls `entry` with `x`.
pub fn call(entry: u64, x: i64, outside: &mut Outside<'_>) -> Result<i64, Ended> {
    let mut processor = Processor {
        outside,
        at: entry,
        rax: 0,
        rdi: x as u64,
        r10: 0,
        r11: 0,
        frames: Vec::new(),
    };
    world::go_in();
    processor.push(OUTSIDE);
    processor.enter();
    let mut result = Ok(());
    let mut steps = 0;
    while result.is_ok() && processor.at != OUTSIDE {
        world::point();
        steps += 1;
        result = match steps > MOST {
            true => Err(processor.broken("it never ends")),
            false => processor.step(),
        };
    }
    for frame in &processor.frames {
        for _ in 0..frame.words {
            stack::pop();
        }
    }
    world::come_out();
    result.map(|()| processor.rax as i64)
}

impl Processor<'_, '_> {
    fn broken(&self, what: &str) -> Ended {
        world::broken(format!("{what}: code at {:#x}", self.at));
        Ended::Broken
    }

    fn enter(&mut self) {
        let page = memory::page(self.at);
        self.frames.push(Frame {
            serial: page.map_or(0, |page| page.serial),
            // The return address is its caller's.
            words: usize::from(self.frames.is_empty()),
        });
    }

    /// The mapping of the innermost frame is the one that it goes to, by a jump.
    fn jump(&mut self, to: u64) {
        self.at = to;
        let serial = memory::page(to).map_or(0, |page| page.serial);
        if let Some(frame) = self.frames.last_mut() {
            frame.serial = serial;
        }
    }

    fn push(&mut self, word: u64) {
        stack::push(word);
        if let Some(frame) = self.frames.last_mut() {
            frame.words += 1;
        }
    }

    fn pop(&mut self) -> u64 {
        if let Some(frame) = self.frames.last_mut() {
            frame.words -= 1;
        }
        stack::pop().unwrap_or(OUTSIDE)
    }

    fn call(&mut self, to: u64, next: u64) {
        self.push(next);
        self.at = to;
        self.enter();
    }

    fn ret(&mut self) {
        let outermost = self.frames.len() == 1;
        if !outermost {
            self.frames.pop();
        }
        self.at = self.pop();
        if outermost {
            self.frames.pop();
        }
    }

    fn fetch<const N: usize>(&self) -> Result<[u8; N], Ended> {
        let Some(page) = memory::page(self.at) else {
            return Err(self.broken("it runs in memory that is gone"));
        };
        let serial = self.frames.last().map_or(0, |frame| frame.serial);
        if page.serial != serial {
            return Err(self.broken("it runs in memory that became another's"));
        }
        if !page.executable || page.writable {
            return Err(self.broken("it runs what is no code"));
        }
        memory::read(self.at).ok_or_else(|| self.broken("it runs off its memory"))
    }

    fn word(&self, at: u64) -> Result<u64, Ended> {
        let bytes = memory::read(at).ok_or_else(|| self.broken("it reads memory that is gone"))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// What a displacement at the end of an instruction of this length leads to.
    fn relative(&self, len: u64) -> Result<u64, Ended> {
        let bytes = memory::read(self.at + len - 4);
        let bytes = bytes.ok_or_else(|| self.broken("it runs off its memory"))?;
        let distance = i64::from(i32::from_ne_bytes(bytes));
        Ok((self.at + len).wrapping_add_signed(distance))
    }

    fn immediate(&self, skip: u64) -> Result<u64, Ended> {
        let bytes = memory::read(self.at + skip);
        let bytes = bytes.ok_or_else(|| self.broken("it runs off its memory"))?;
        Ok(i64::from(i32::from_ne_bytes(bytes)) as u64)
    }

    /// Somewhere that is no code of the cache's, if it is there.
    fn elsewhere(&mut self) -> Result<bool, Ended> {
        if self.at == resolver() {
            let number = self.pop();
            (self.outside.looks)();
            // SAFETY: a thunk led here, on a thread that is pinned: so the cache is there, and the method.
            let to = unsafe { resolve(self.r11, number) };
            if to == self.outside.failure {
                return Err(match inkpot::last_failure() {
                    Some(error) if !world::is_broken() => Ended::Failed(error),
                    _ => Ended::Broken,
                });
            }
            self.jump(to);
        } else if self.at == self.outside.fallback.0 {
            self.rax = (self.outside.fallback.1)(self.r10, self.rdi as i64) as u64;
            self.ret();
        } else if self.at == host as *const () as u64 {
            (self.outside.errand)();
            self.rax = (3 * self.rdi as i64) as u64;
            self.ret();
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn step(&mut self) -> Result<(), Ended> {
        if self.elsewhere()? {
            return Ok(());
        }
        let [first] = self.fetch()?;
        match first {
            0xc3 => {
                self.ret();
                return Ok(());
            }
            0x68 => {
                let number = self.immediate(1)?;
                self.push(number);
                self.at += 5;
                return Ok(());
            }
            0xe9 => {
                let to = self.relative(5)?;
                self.jump(to);
                return Ok(());
            }
            _ => {}
        }
        match (first, self.fetch::<4>()?) {
            (0x41, [_, 0xb8, ..]) => {
                let stamp = self.immediate(2)? as u32;
                (self.outside.begins)(stamp);
                self.at += 6;
            }
            (0x48, [_, 0x81, 0xc7, _]) => {
                self.rdi = self.rdi.wrapping_add(self.immediate(3)?);
                self.at += 7;
            }
            (0x48, [_, 0x8b, 0x05, _]) => {
                (self.outside.looks)();
                self.rax = self.word(self.relative(7)?)?;
                self.at += 7;
            }
            (0x48, [_, 0x8d, 0x05, _]) => {
                self.rax = self.relative(7)?;
                self.at += 7;
            }
            (0x48, [_, 0x8d, 0x87, _]) => {
                self.rax = self.rdi.wrapping_add(self.immediate(3)?);
                self.at += 7;
            }
            (0x48, [_, 0x05, ..]) => {
                self.rax = self.rax.wrapping_add(self.immediate(2)?);
                self.at += 6;
            }
            (0x48, [_, 0x83, 0xec, 8]) => {
                self.push(0);
                self.at += 4;
            }
            (0x48, [_, 0x83, 0xc4, 8]) => {
                self.pop();
                self.at += 4;
            }
            (0x49, [_, 0xbb, ..]) => {
                self.r11 = self.word(self.at + 2)?;
                self.at += 10;
            }
            (0x4c, [_, 0x8b, 0x15, _]) => {
                self.r10 = self.word(self.relative(7)?)?;
                self.at += 7;
            }
            (0xf3, [_, 0x0f, 0x1e, 0xfa]) => self.at += 4,
            (0xff, [_, 0xe0, ..]) => self.jump(self.rax),
            (0xff, [_, 0xd0, ..]) => self.call(self.rax, self.at + 2),
            (0xff, [_, 0x15, ..]) => {
                let to = self.word(self.relative(6)?)?;
                self.call(to, self.at + 6);
            }
            (0xff, [_, 0x25, ..]) => {
                (self.outside.looks)();
                let to = self.word(self.relative(6)?)?;
                self.jump(to);
            }
            _ => return Err(self.broken("it is no code of anybody's")),
        }
        Ok(())
    }
}
