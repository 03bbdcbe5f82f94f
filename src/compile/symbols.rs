//! The cache's own symbols: what methods are called in objects, and what they refer to.

use crate::method::{Key, Method};

pub(crate) const POLL_FLAG: &str = "inkpot.poll.flag";
pub(crate) const POLL_SAFEPOINT: &str = "inkpot.poll.safepoint";
/// What code calls whose counter is full.
pub(crate) const COUNTER_FULL: &str = "inkpot.counter.full";
/// What code calls to count a way round a loop.
pub(crate) const COUNTER_ROUND: &str = "inkpot.counter.round";

pub(crate) fn symbol_of<K: Key>(method: &Method<K>) -> String {
    format!("inkpot.method.{}", method.cell)
}

/// The number of the cell of the method that a symbol is of: of what [`symbol_of`] makes, and of nothing else.
pub(crate) fn method_of(symbol: &str) -> Option<u32> {
    let digits = symbol.strip_prefix("inkpot.method.")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain && shortest)
}

pub(super) fn cell_symbol<K: Key>(method: &Method<K>) -> String {
    format!("inkpot.cell.{}", method.cell)
}

pub(super) fn address_symbol<K: Key>(method: &Method<K>) -> String {
    format!("inkpot.address.{}", method.cell)
}

/// What an undefined symbol of ours means.
pub(crate) enum OwnSymbol<'s> {
    /// The cell with this number.
    Cell(u32),
    /// The canonical entry of the cell with this number.
    Address(u32),
    /// The import of this name, in a module where the name itself means something else.
    Import(&'s str),
    /// The parts of a [`Poll`].
    PollFlag,
    PollSafepoint,
    /// What code calls whose counter is full, and to count a way round a loop.
    CounterFull,
    CounterRound,
}

/// Understands `inkpot.cell.N` and `inkpot.address.N`, with any suffix after a dot,
/// `inkpot.import.N.NAME`, and the symbols of a poll.
pub(crate) fn parse_symbol(symbol: &str) -> Option<OwnSymbol<'_>> {
    match symbol {
        POLL_FLAG => return Some(OwnSymbol::PollFlag),
        POLL_SAFEPOINT => return Some(OwnSymbol::PollSafepoint),
        COUNTER_FULL => return Some(OwnSymbol::CounterFull),
        COUNTER_ROUND => return Some(OwnSymbol::CounterRound),
        _ => {}
    }
    let (what, rest) = symbol.strip_prefix("inkpot.")?.split_once('.')?;
    let (number, suffix) = match rest.split_once('.') {
        Some((number, suffix)) => (number, Some(suffix)),
        None => (rest, None),
    };
    let number = number.parse().ok()?;
    match what {
        "cell" => Some(OwnSymbol::Cell(number)),
        "address" => Some(OwnSymbol::Address(number)),
        "import" => suffix.map(OwnSymbol::Import),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::method_of;

    #[test]
    fn only_the_symbol_of_a_method_is_one() {
        for (symbol, number) in [("0", 0), ("7", 7), ("4294967295", u32::MAX)] {
            assert_eq!(method_of(&format!("inkpot.method.{symbol}")), Some(number));
        }
        for other in ["", "00", "07", "+7", "-7", " 7", "7.0", "7x", "4294967296"] {
            assert_eq!(
                method_of(&format!("inkpot.method.{other}")),
                None,
                "{other}"
            );
        }
        assert_eq!(method_of("inkpot.cell.7"), None);
    }
}
