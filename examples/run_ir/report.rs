//! The report of a crash: in which of the program's functions it was, or which of them called what crashed.
//!
//! All of it is done in the handler of the signal, so it takes no lock, allocates nothing, and reads memory by a system
//! call that fails where a load would fault. The stack of a function of the host's is not unwound: that takes locks,
//! which the function may hold. It is searched for what a call of the host's from the program has left there. Return
//! addresses of calls that are over may lie on it as well, but those are of calls from method to method, as a rule: the
//! instruction before the address tells which it was.

use crate::frontend::Key;
use inkpot::Cache;
use std::ffi::{c_int, c_void};

/// As much of a name as is shown.
const NAME: usize = 256;

/// As much of the stack as is searched.
const SEARCHED: usize = 256 << 10;

const PAGE: usize = 4096;
const WORD: usize = size_of::<usize>();

/// Writes the report of a signal to a descriptor.
pub fn write(cache: &Cache<Key>, signal: c_int, context: &libc::ucontext_t, to: c_int) {
    let registers = &context.uc_mcontext.gregs;
    let at = registers[libc::REG_RIP as usize] as usize;
    let stack = registers[libc::REG_RSP as usize] as usize;
    let mut line = Line::default();
    line.push("run_ir: ");
    line.push(name(signal));
    if !line.push_function(cache, " in ", at, 0) {
        line.push(" outside of the program's functions");
        if let Some(back) = caller(cache, stack) {
            // The call may be the function's last instruction.
            line.push_function(cache, ", called from ", back - 1, 1);
        }
    }
    line.push("\n");
    let line = line.bytes();
    // SAFETY: the line is as long as said. Where nobody reads it there is nothing to be done.
    unsafe { libc::write(to, line.as_ptr().cast(), line.len()) };
}

fn name(signal: c_int) -> &'static str {
    match signal {
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        _ => "a signal",
    }
}

/// The nearest place on the stack to which a call returns that the program made of something else.
fn caller(cache: &Cache<Key>, stack: usize) -> Option<usize> {
    let mut words = [0_usize; PAGE / WORD];
    let start = stack.next_multiple_of(WORD);
    let (mut at, mut perhaps) = (start, None);
    while at < start.saturating_add(SEARCHED) {
        // To the end of the page: the next may not be there. (Where the stack has overflown, the first is not.)
        let here = (PAGE - at % PAGE) / WORD;
        let read = read(at, &mut words[..here]);
        for (index, &word) in words[..read].iter().enumerate() {
            let call = Some(word).filter(|&word| cache.contains(word as *const ()));
            match call.and_then(|word| call_before(cache, word)) {
                Some(Call::OfTheHost) => return Some(word),
                // Nothing was pushed yet: by an address that leads nowhere, say.
                Some(Call::ByAddress) if (at, index) == (start, 0) => return Some(word),
                Some(Call::ByAddress) => perhaps = perhaps.or(Some(word)),
                Some(Call::OfAMethod) | None => {}
            }
        }
        at += here * WORD;
    }
    perhaps
}

enum Call {
    OfTheHost,
    OfAMethod,
    /// Of either.
    ByAddress,
}

/// The call that an address in the program's code is behind, as far as the bytes before it tell.
fn call_before(cache: &Cache<Key>, address: usize) -> Option<Call> {
    let by_slot = |slot| match read_word(slot)? {
        target if cache.contains(target as *const ()) => Some(Call::OfAMethod),
        _ => Some(Call::OfTheHost),
    };
    let bytes = read_word(address.wrapping_sub(WORD))?.to_le_bytes();
    match bytes {
        [_, _, 0xff, 0x15, distance @ ..] => by_slot(beyond(address, distance)),
        [_, _, _, 0xe8, distance @ ..] => {
            let target = beyond(address, distance);
            match read_word(target)?.to_le_bytes() {
                // The linker's stub.
                [0xff, 0x25, a, b, c, d, ..] => by_slot(beyond(target + 6, [a, b, c, d])),
                _ => Some(Call::OfAMethod),
            }
        }
        _ => {
            // By a register, or by memory that one points to: 2 to 7 bytes, and 2 in the middle of the second.
            let is_call = |length: usize| {
                let at = WORD - length;
                bytes[at] == 0xff && bytes[at + 1] >> 3 & 7 == 2
            };
            [2, 3, 4, 6, 7]
                .into_iter()
                .any(is_call)
                .then_some(Call::ByAddress)
        }
    }
}

fn beyond(address: usize, distance: [u8; 4]) -> usize {
    address.wrapping_add_signed(i32::from_le_bytes(distance) as isize)
}

fn read_word(from: usize) -> Option<usize> {
    let mut word = [0];
    (read(from, &mut word) == 1).then_some(word[0])
}

/// Reads words of this process, and says how many there were.
fn read(from: usize, words: &mut [usize]) -> usize {
    let bytes = size_of_val(words);
    let to = libc::iovec {
        iov_base: words.as_mut_ptr().cast::<c_void>(),
        iov_len: bytes,
    };
    let from = libc::iovec {
        iov_base: from as *mut c_void,
        iov_len: bytes,
    };
    // SAFETY: the kernel writes to the words, as many as there are, and looks itself what it may read.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
    usize::try_from(read).unwrap_or(0) / WORD
}

/// A line of text on the stack; what does not fit in is left out.
struct Line {
    text: [u8; 2 * NAME],
    length: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            text: [0; 2 * NAME],
            length: 0,
        }
    }
}

impl Line {
    fn push(&mut self, text: &str) {
        let room = &mut self.text[self.length..];
        let fits = text.len().min(room.len());
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
    }

    /// Names the function that an address lies in, and how far behind its beginning, and `more`. False if it lies in none.
    fn push_function(
        &mut self,
        cache: &Cache<Key>,
        before: &str,
        address: usize,
        more: u64,
    ) -> bool {
        let mut buffer = [0; NAME];
        let Some(symbol) = cache.symbol_into(address as *const (), &mut buffer) else {
            return false;
        };
        self.push(before);
        self.push(symbol.method);
        self.push(" + ");
        self.push_number(symbol.offset + more);
        true
    }

    fn push_number(&mut self, number: u64) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        let digit = [b'0' + (number % 10) as u8];
        self.push(std::str::from_utf8(&digit).unwrap_or_default());
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}
