//! What can go wrong between an object and linked code.
//!
//! Every variant owns plain strings and numbers, so that an error can outlive
//! the object it speaks of, be cloned for each waiter, and be compared in a test.

/// Why an object, or one function of it, could not be linked.
///
/// Where a relocation is at fault, `symbol` is what it refers to, `section` the
/// section whose bytes it would have changed, and `relocation` its type as the
/// ABI spells it (`R_X86_64_TLSGD`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are no relocatable object, or contradict themselves: a
    /// truncated table, a symbol outside its section, an unwind record whose
    /// length leads nowhere.
    #[error("malformed object: {what}")]
    Malformed {
        /// What does not add up.
        what: String,
    },

    /// A relocation of a kind that the linker does not do: thread-local
    /// storage, indirect functions, and what only dynamic linkers meet.
    #[error("unsupported relocation {relocation} against `{symbol}` in section `{section}`")]
    Unsupported {
        /// The symbol referred to.
        symbol: String,
        /// The section that holds the relocation.
        section: String,
        /// The relocation's type.
        relocation: String,
    },

    /// A symbol that the object does not define, and nobody else knows.
    #[error("unresolved symbol `{symbol}`, used in section `{section}`")]
    Unresolved {
        /// The symbol that nobody knows.
        symbol: String,
        /// The section that refers to it.
        section: String,
    },

    /// The value does not fit the relocation's field. Far *calls* never end
    /// here, they go through stubs; data addressed with 32 bits does.
    #[error(
        "{relocation} against `{symbol}` in section `{section}` is out of range: \
         {distance:#x} does not fit"
    )]
    OutOfRange {
        /// The symbol referred to.
        symbol: String,
        /// The section that holds the relocation.
        section: String,
        /// The relocation's type.
        relocation: String,
        /// The value the field should have held: for relative forms the
        /// distance in bytes. Values beyond 64 bits are cut to the nearest.
        distance: i64,
    },

    /// A section that cannot be honoured: constructors and destructors, code
    /// that is writable, compressed or exotic contents.
    #[error("unsupported section `{section}`: {why}")]
    UnsupportedSection {
        /// The section's name.
        section: String,
        /// Why it cannot be linked.
        why: String,
    },

    /// A symbol that cannot be honoured wherever it is used: an indirect
    /// function (`STT_GNU_IFUNC`). Its address is what its resolver returns, and
    /// nothing of an object can be run while it is being linked.
    #[error("unsupported symbol `{symbol}`: {why}")]
    UnsupportedSymbol {
        /// The symbol's name.
        symbol: String,
        /// Why it cannot be linked.
        why: String,
    },

    /// The memory given for an area is smaller than what the object needs.
    #[error("the {area} area has {have} bytes, the object needs {need}")]
    TooSmall {
        /// `text`, `constants`, `data` or `unwind`.
        area: String,
        /// Bytes needed.
        need: u64,
        /// Bytes given.
        have: u64,
    },

    /// The memory given for an area does not begin at the alignment that the
    /// object needs, or wraps around the end of the address space.
    #[error("the {area} area cannot be at {address:#x}: the object needs alignment {align}")]
    Misplaced {
        /// `text`, `constants`, `data` or `unwind`.
        area: String,
        /// The address given.
        address: u64,
        /// The alignment needed.
        align: u64,
    },
}

impl LinkError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }

    pub(super) fn indirect(symbol: &str) -> Self {
        Self::UnsupportedSymbol {
            symbol: symbol.to_owned(),
            why: "an indirect function (STT_GNU_IFUNC)".to_owned(),
        }
    }

    pub(super) fn section(section: &str, why: impl Into<String>) -> Self {
        Self::UnsupportedSection {
            section: section.to_owned(),
            why: why.into(),
        }
    }
}
