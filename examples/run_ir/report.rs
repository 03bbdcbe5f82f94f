//! The report of a crash: in which of the program's functions it was, or which of them called what crashed.
//!
//! All of it is done in the handler of the signal, so it takes no lock, allocates nothing, and reads memory by a system
//! call that fails where a load would fault. The stack of a function of the host's is not unwound: that takes locks,
//! which the function may hold. It is searched for the first word that is the address behind a call in a function of the
//! program's. Functions of the host's seldom leave such an address of an earlier call in their frames, but they may:
//! the function named then called something, and has returned since.

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
    if !line.push_function(cache, " in ", at) {
        line.push(" outside of the program's functions");
        if let Some(back) = caller(cache, stack) {
            line.push_function(cache, ", called from ", back);
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

/// The return address nearest to the top of the stack that lies in a function of the program's.
fn caller(cache: &Cache<Key>, stack: usize) -> Option<usize> {
    let mut words = [0_usize; PAGE / WORD];
    let mut at = stack.next_multiple_of(WORD);
    let end = at.saturating_add(SEARCHED);
    while at < end {
        // To the end of the page: the next may not be there. (Where the stack has overflown, the first is not.)
        let here = (PAGE - at % PAGE) / WORD;
        let read = read(at, &mut words[..here]);
        let found = words[..read]
            .iter()
            .copied()
            .find(|&word| cache.contains(word as *const ()) && follows_a_call(word));
        if found.is_some() {
            return found;
        }
        at += here * WORD;
    }
    None
}

/// Whether the instruction before an address is a call, as far as its bytes tell.
fn follows_a_call(address: usize) -> bool {
    let mut words = [0_usize];
    if read(address.wrapping_sub(WORD), &mut words) == 0 {
        return false;
    }
    let bytes = words[0].to_le_bytes();
    // `call` by a register or memory has 2 in the middle of the byte behind its opcode, and is of 2 to 7 bytes.
    let is_indirect =
        |length: usize| bytes[WORD - length] == 0xff && bytes[WORD - length + 1] >> 3 & 7 == 2;
    bytes[WORD - 5] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
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

    /// Names the function that an address lies in, and how far behind its beginning. False if it lies in none.
    fn push_function(&mut self, cache: &Cache<Key>, before: &str, address: usize) -> bool {
        let mut buffer = [0; NAME];
        let Some(symbol) = cache.symbol_into(address as *const (), &mut buffer) else {
            return false;
        };
        self.push(before);
        self.push(symbol.method);
        self.push(" + ");
        self.push_number(symbol.offset);
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
