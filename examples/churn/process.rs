//! What the operating system says of this process.

use std::fs::File;
use std::io::{Read, Result, Seek};
use std::time::Instant;

/// Reads the process's own figures, again and again, without growing.
pub struct Process {
    statm: File,
    maps: File,
    text: String,
    page_kib: u64,
    last: Mappings,
    not_before: Instant,
}

/// What the list of mappings says.
#[derive(Clone, Copy, Default)]
pub struct Mappings {
    pub lines: u64,
    /// Executable memory that is not from a program or library.
    pub code_kib: u64,
}

impl Process {
    pub fn open() -> Result<Self> {
        // SAFETY: asks for a number, and touches no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self {
            statm: File::open("/proc/self/statm")?,
            maps: File::open("/proc/self/maps")?,
            text: String::with_capacity(64 << 10),
            page_kib: u64::try_from(page).unwrap_or(4096) / 1024,
            last: Mappings::default(),
            not_before: Instant::now(),
        })
    }

    fn read(file: &mut File, text: &mut String) -> Result<()> {
        text.clear();
        file.rewind()?;
        file.read_to_string(text)?;
        Ok(())
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&mut self) -> Result<u64> {
        Self::read(&mut self.statm, &mut self.text)?;
        let pages = self
            .text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.unwrap_or(0) * self.page_kib)
    }

    /// The mappings of now, or, unless it must be `surely`, of a moment ago: reading the list takes
    /// long where there are many, and is given five percent of the time.
    pub fn mappings(&mut self, surely: bool) -> Result<Mappings> {
        let start = Instant::now();
        if surely || start >= self.not_before {
            Self::read(&mut self.maps, &mut self.text)?;
            self.last = Mappings::default();
            // The list comes a page at a time, and what has been merged meanwhile comes again.
            let mut seen = 0;
            for line in self.text.lines() {
                self.last.lines += 1;
                if let Some((from, to)) = code(line) {
                    self.last.code_kib += to.saturating_sub(from.max(seen)) / 1024;
                    seen = seen.max(to);
                }
            }
            let end = Instant::now();
            self.not_before = end + (end - start) * 20;
        }
        Ok(self.last)
    }
}

/// Where a mapping is, if it is executable and not a file's.
fn code(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let executable = words.next()?.contains('x');
    let name = words.nth(3).unwrap_or("");
    let jitted = name.is_empty() || name.starts_with("/memfd:");
    let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).ok());
    (executable && jitted).then_some((from?, to?))
}
