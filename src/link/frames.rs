//! `.eh_frame`: checked record by record, before an unwinder sees it.
//!
//! libgcc believes what is registered with it: a wrong length walks it off the
//! table, an unknown pointer encoding or opcode aborts the process, a missing
//! common record is read from wherever the pointer leads. So the whole structure
//! is checked here, and after relocation each function range once more.
//!
//! ```text
//! CIE   length | 0 | version | "zPLR" | factors | personality, encodings | program
//! FDE   length | distance back to the CIE | start | range | LSDA | program
//! end   0
//! ```
//!
//! What relocations may change are three fields only: a function's start, its
//! LSDA, and the personality of a CIE.

use super::error::LinkError;

/// The return address is the last register that libgcc keeps for x86-64. It
/// skips rules for others (vector registers), but must find the frame itself in
/// one that it has.
const MAX_REGISTER: u64 = 16;

/// A pointer encoding of `DW_EH_PE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    width: usize,
    signed: bool,
    relative: bool,
}

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xFF;

impl Encoding {
    fn new(byte: u8) -> Result<Self, LinkError> {
        let (width, signed) = match byte & 0x0F {
            0x00 | 0x04 => (8, false),
            0x03 => (4, false),
            0x0B => (4, true),
            0x0C => (8, true),
            _ => return Err(unknown("pointer format", byte)),
        };
        let relative = match byte & 0xF0 {
            0x00 => false,
            0x10 => true,
            _ => return Err(unknown("pointer base", byte)),
        };
        Ok(Self {
            width,
            signed,
            relative,
        })
    }

    fn read(self, bytes: &[u8]) -> Option<u64> {
        Some(match (self.width, self.signed) {
            (4, true) => i64::from(i32::from_le_bytes(array(bytes)?)) as u64,
            (4, false) => u64::from(u32::from_le_bytes(array(bytes)?)),
            _ => u64::from_le_bytes(array(bytes)?),
        })
    }
}

/// A field that a relocation may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub offset: usize,
    pub width: usize,
    /// The CIE or FDE that it is in: its offset.
    pub record: usize,
}

/// A frame description entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fde {
    pub offset: usize,
    pub end: usize,
    /// The offset of its CIE.
    pub cie: usize,
    /// The offset of the field that says where the function starts.
    pub start_at: usize,
    encoding: Encoding,
    /// How many bytes of code it covers.
    pub range: u64,
}

struct Cie {
    offset: usize,
    pointers: Encoding,
    /// `None`: its FDEs have no LSDA.
    lsda: Option<Encoding>,
    augmented: bool,
}

/// The records of one `.eh_frame` section.
#[derive(Debug)]
pub(super) struct Frames {
    /// How long they are without a terminator.
    pub len: usize,
    pub fdes: Vec<Fde>,
    /// Where the common records begin and end.
    pub cies: Vec<(usize, usize)>,
    /// By offset.
    fields: Vec<Field>,
}

impl Frames {
    /// Checks all records. A terminator may end them, and is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        // The records of most functions are longer, and have one field.
        let about = bytes.len() / 32;
        let mut frames = Self {
            len: 0,
            fdes: Vec::with_capacity(about),
            cies: Vec::new(),
            fields: Vec::with_capacity(about),
        };
        let mut cies: Vec<Cie> = Vec::new();
        while frames.len < bytes.len() {
            let offset = frames.len;
            let mut cursor = Cursor {
                bytes,
                at: offset,
                end: bytes.len(),
            };
            let length = cursor.u32()?;
            if length == 0 {
                if bytes[offset..].iter().any(|&byte| byte != 0) {
                    return Err(broken("records after the terminator"));
                }
                break;
            }
            // All ones announce the 64-bit format, which libgcc does not know.
            let end = (cursor.at as u64).checked_add(u64::from(length));
            let end = end.filter(|&end| end <= bytes.len() as u64 && length % 4 == 0);
            let end = end.ok_or_else(|| broken("a record's length"))? as usize;
            cursor.end = end;
            let pointer_at = cursor.at;
            match cursor.u32()? {
                0 => {
                    cies.push(frames.cie(cursor, offset)?);
                    frames.cies.push((offset, end));
                }
                back => {
                    let cie = pointer_at.checked_sub(back as usize);
                    let cie = cie.and_then(|at| cies.binary_search_by_key(&at, |c| c.offset).ok());
                    let cie = cie.ok_or_else(|| broken("a pointer to no CIE"))?;
                    frames.fde(cursor, offset, &cies[cie])?;
                }
            }
            frames.len = end;
        }
        Ok(frames)
    }

    /// Whether there is no function in it.
    pub fn describe_nothing(&self) -> bool {
        self.fdes.is_empty()
    }

    /// The field that begins at an offset.
    pub fn field_at(&self, offset: u64) -> Option<&Field> {
        let offset = usize::try_from(offset).ok()?;
        let index = self.fields.binary_search_by_key(&offset, |f| f.offset);
        index.ok().map(|index| &self.fields[index])
    }

    /// Whether a field says where a function starts.
    pub fn is_start(&self, field: &Field) -> bool {
        let index = self.fdes.binary_search_by_key(&field.record, |f| f.offset);
        index.is_ok_and(|index| self.fdes[index].start_at == field.offset)
    }

    fn field(&mut self, offset: usize, width: usize, record: usize) {
        self.fields.push(Field {
            offset,
            width,
            record,
        });
    }

    fn cie(&mut self, mut cursor: Cursor<'_>, offset: usize) -> Result<Cie, LinkError> {
        let version = cursor.u8()?;
        if version != 1 && version != 3 {
            return Err(unknown("version", version));
        }
        let augmentation = cursor.string()?;
        // Code and data alignment factors.
        cursor.leb()?;
        cursor.leb()?;
        let return_address = match version {
            1 => u64::from(cursor.u8()?),
            _ => cursor.uleb()?,
        };
        if return_address > MAX_REGISTER {
            return Err(broken("a return address in no register"));
        }
        let mut cie = Cie {
            offset,
            pointers: Encoding::new(0)?,
            lsda: None,
            augmented: !augmentation.is_empty(),
        };
        if let [b'z', letters @ ..] = augmentation {
            let program = cursor.block()?;
            for (index, letter) in letters.iter().enumerate() {
                match letter {
                    b'R' => cie.pointers = Encoding::new(cursor.u8()?)?,
                    b'L' => {
                        let byte = cursor.u8()?;
                        cie.lsda = (byte != OMIT).then(|| Encoding::new(byte)).transpose()?;
                    }
                    b'P' => {
                        // An indirect one is read through a reference.
                        let encoding = Encoding::new(cursor.u8()? & 0x7F)?;
                        self.field(cursor.at, encoding.width, offset);
                        cursor.skip(encoding.width)?;
                    }
                    // A signal frame. libgcc looks for the R before it only.
                    b'S' if letters[..index].contains(&b'R') => {}
                    other => return Err(unknown("augmentation", *other)),
                }
            }
            if cursor.at > program {
                return Err(broken("an augmentation beyond its length"));
            }
            cursor.at = program;
        } else if cie.augmented {
            return Err(broken("an unknown augmentation"));
        }
        cursor.program()?;
        Ok(cie)
    }

    fn fde(&mut self, mut cursor: Cursor<'_>, offset: usize, cie: &Cie) -> Result<(), LinkError> {
        let Encoding { width, .. } = cie.pointers;
        let start_at = cursor.at;
        self.field(start_at, width, offset);
        cursor.skip(width)?;
        let range = cursor.take(width)?;
        let range = cie.pointers.read(range).unwrap_or(u64::MAX);
        if cie.augmented {
            let program = cursor.block()?;
            if let Some(lsda) = cie.lsda {
                self.field(cursor.at, lsda.width, offset);
                cursor.skip(lsda.width)?;
            }
            if cursor.at > program {
                return Err(broken("an augmentation beyond its length"));
            }
            cursor.at = program;
        }
        cursor.program()?;
        self.fdes.push(Fde {
            offset,
            end: cursor.end,
            cie: cie.offset,
            start_at,
            encoding: cie.pointers,
            range,
        });
        Ok(())
    }
}

impl Fde {
    /// Where the function starts, read from the linked records, which stand at
    /// `address`. `None`: nowhere, and libgcc skips the entry.
    pub fn start(&self, records: &[u8], address: u64) -> Option<u64> {
        let raw = self.encoding.read(records.get(self.start_at..)?)?;
        match (raw, self.encoding.relative) {
            (0, _) => None,
            (raw, true) => Some(raw.wrapping_add(address).wrapping_add(self.start_at as u64)),
            (raw, false) => Some(raw),
        }
    }

    /// Makes it describe nothing, for a function that could not be linked.
    pub fn silence(&self, records: &mut [u8]) {
        let end = self.start_at + self.encoding.width;
        if let Some(field) = records.get_mut(self.start_at..end) {
            field.fill(0);
        }
    }
}

/// Reads a record, and never beyond its end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], LinkError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.end);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| broken("a record that ends too early"))?;
        self.at += len;
        Ok(taken)
    }

    fn skip(&mut self, len: usize) -> Result<(), LinkError> {
        self.take(len).map(|_| ())
    }

    fn u8(&mut self) -> Result<u8, LinkError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Result<u32, LinkError> {
        let bytes = self.take(4)?;
        Ok(array(bytes).map_or(0, u32::from_le_bytes))
    }

    fn string(&mut self) -> Result<&'a [u8], LinkError> {
        let start = self.at;
        while self.u8()? != 0 {}
        Ok(&self.bytes[start..self.at - 1])
    }

    fn uleb(&mut self) -> Result<u64, LinkError> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.u8()?;
            if shift > 56 {
                return Err(broken("a number too large"));
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// Skips a number, signed or not: both end alike.
    fn leb(&mut self) -> Result<(), LinkError> {
        self.uleb().map(|_| ())
    }

    /// Reads a block's length and says where the block ends.
    fn block(&mut self) -> Result<usize, LinkError> {
        let len = self.uleb()?;
        let end = (self.at as u64).checked_add(len);
        let end = end.filter(|&end| end <= self.end as u64);
        end.map(|end| end as usize)
            .ok_or_else(|| broken("a block beyond its record"))
    }

    fn skip_block(&mut self) -> Result<(), LinkError> {
        self.at = self.block()?;
        Ok(())
    }

    fn frame_register(&mut self) -> Result<(), LinkError> {
        match self.uleb()? {
            ..=MAX_REGISTER => Ok(()),
            _ => Err(broken("a frame relative to an unknown register")),
        }
    }

    /// Walks over call frame instructions: libgcc aborts on one that it does
    /// not know, and pops a state that was never pushed.
    fn program(&mut self) -> Result<(), LinkError> {
        let mut states = 0u32;
        while self.at < self.end {
            match self.u8()? {
                // remember_state, restore_state
                0x0A => states += 1,
                0x0B => {
                    let left = states.checked_sub(1);
                    states = left.ok_or_else(|| broken("a state that was never remembered"))?;
                }
                op => self.operands(op)?,
            }
        }
        Ok(())
    }

    /// Walks over the operands of a call frame instruction.
    fn operands(&mut self, op: u8) -> Result<(), LinkError> {
        match op {
            // nop; advance_loc and restore have theirs in the opcode
            0x00 | 0x40..=0x7F | 0xC0..=0xFF => Ok(()),
            // advance_loc1, 2, 4
            0x02 => self.skip(1),
            0x03 => self.skip(2),
            0x04 => self.skip(4),
            // offset; restore_extended, undefined, same_value; def_cfa_offset,
            // its signed form, GNU_args_size
            0x80..=0xBF | 0x06..=0x08 | 0x0E | 0x13 | 0x2E => self.leb(),
            // offset_extended, val_offset, GNU_negative_offset, register, and
            // the signed forms of the first two
            0x05 | 0x09 | 0x11 | 0x14 | 0x15 | 0x2F => self.leb().and_then(|()| self.leb()),
            // def_cfa, its signed form
            0x0C | 0x12 => self.frame_register().and_then(|()| self.leb()),
            // def_cfa_register
            0x0D => self.frame_register(),
            // def_cfa_expression
            0x0F => self.skip_block(),
            // expression, val_expression
            0x10 | 0x16 => self.leb().and_then(|()| self.skip_block()),
            other => Err(unknown("call frame instruction", other)),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

fn broken(what: &str) -> LinkError {
    LinkError::malformed(format!(".eh_frame: {what}"))
}

fn unknown(what: &str, value: u8) -> LinkError {
    LinkError::malformed(format!(".eh_frame: unknown {what} {value:#x}"))
}
