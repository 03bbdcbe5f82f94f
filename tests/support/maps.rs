//! The process's mappings.

use std::ops::Range;

/// A line of the process's map.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub span: Range<u64>,
    /// `r-xs`, say.
    pub permissions: String,
    /// The number of the file that is behind it, or 0.
    pub file: u64,
    pub path: String,
}

/// All of them, by address.
pub fn mappings() -> Vec<Mapping> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own mappings");
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        Some(Mapping {
            span: u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?,
            permissions: words.next()?.to_owned(),
            file: words.nth(2)?.parse().ok()?,
            path: words.next().unwrap_or_default().to_owned(),
        })
    };
    maps.lines()
        .map(|line| parse(line).expect("a line of maps"))
        .collect()
}

/// The one that an address lies in.
pub fn mapping_of(address: u64) -> Option<Mapping> {
    mappings().into_iter().find(|m| m.span.contains(&address))
}

/// The address space that a cache has, around an address in it: neighbouring mappings.
pub fn around(address: u64) -> Range<u64> {
    let all = mappings();
    let holds = |at: u64| all.iter().find(|m| m.span.contains(&at));
    let (mut low, mut high) = (address, address);
    while let Some(below) = holds(low - 1) {
        low = below.span.start;
    }
    while let Some(above) = holds(high) {
        high = above.span.end;
    }
    low..high
}
