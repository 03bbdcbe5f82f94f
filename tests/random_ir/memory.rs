//! Memory: the function's own, what its caller passed, and what all share. Offsets are kept within bounds, and all of it
//! is written before it is read.

use crate::body::Body;
use crate::program::Pick;
use crate::types::{I1, Ty};

/// Bytes that a function has of its own, and passes on.
pub const OWN: u32 = 64;

/// Bytes that all functions share, behind the counters of `control`.
pub const SHARED: u32 = 128;

/// Bytes passed by value.
pub const BY_VALUE: u32 = 24;

/// Where the counters end.
pub const COUNTERS: u32 = 16;

const ATOMIC: [&str; 10] = [
    "add", "sub", "xchg", "and", "nand", "or", "xor", "max", "umin", "umax",
];

impl Body<'_> {
    /// A region by number: its name and length.
    fn region(&self, number: u8) -> (&'static str, u32) {
        let by_value = self.program.signature(self.own).by_value;
        match number % 4 {
            0 => ("%own", OWN),
            1 => ("%buffer", OWN),
            2 if by_value => ("%copy", BY_VALUE),
            _ => ("%common", SHARED),
        }
    }

    /// The address of so many bytes in a region, and what it is sure to be aligned at.
    fn address(&mut self, region: u8, bytes: u32, at: Pick, aligned: bool) -> (String, u32) {
        let (base, length) = self.region(region);
        let align = if aligned {
            bytes.next_power_of_two().min(8)
        } else {
            1
        };
        let places = (length - bytes) / align + 1;
        let place = self.below(places, at);
        let offset = match align {
            1 => place,
            align => self.value(format_args!("mul i32 {place}, {align}")),
        };
        let address = self.value(format_args!("getelementptr i8, ptr {base}, i32 {offset}"));
        (address, align)
    }

    pub fn load(&mut self, ty: Ty, from: u8, at: Pick, volatile: bool) {
        // A small region holds no large value.
        let from = if footprint(ty) > BY_VALUE {
            from & 1
        } else {
            from
        };
        let (address, align) = self.address(from / 2, footprint(ty), at, from & 1 == 1);
        let word = if volatile { " volatile" } else { "" };
        let value = self.get(ty, &address, word, align);
        self.keep(ty, value);
    }

    pub fn store(&mut self, ty: Ty, to: u8, at: Pick, a: Pick, volatile: bool) {
        let value = self.operand(ty, a);
        let to = if footprint(ty) > BY_VALUE { to & 1 } else { to };
        let (address, align) = self.address(to / 2, footprint(ty), at, to & 1 == 1);
        let word = if volatile { " volatile" } else { "" };
        self.put(ty, &value, &address, word, align);
    }

    /// Reads a value as `put` writes it.
    pub fn get(&mut self, ty: Ty, address: &str, word: &str, align: u32) -> String {
        if let Some(stored) = ty.stored() {
            let loaded = self.value(format_args!(
                "load{word} {stored}, ptr {address}, align {align}"
            ));
            return match ty.is_int() {
                true => self.resize(stored, ty, &loaded, false),
                false => loaded,
            };
        }
        let mut all = "zeroinitializer".to_owned();
        for lane in 0..ty.lanes {
            let at = self.value(format_args!(
                "getelementptr i8, ptr {address}, i32 {}",
                lane * step(ty)
            ));
            let one = self.get(ty.lane(), &at, word, 1);
            let with = format!("insertelement {ty} {all}, {} {one}, i32 {lane}", ty.lane());
            all = self.value(with);
        }
        all
    }

    /// Writes a value so that its bytes mean the same to all: whole bytes, and one NaN.
    pub fn put(&mut self, ty: Ty, value: &str, address: &str, word: &str, align: u32) {
        if let Some(stored) = ty.stored() {
            let (ints, bits) = self.bits(ty, value);
            let stored = stored.as_ints();
            let wide = self.resize(ints, stored, &bits, false);
            return self.line(format_args!(
                "store{word} {stored} {wide}, ptr {address}, align {align}"
            ));
        }
        for lane in 0..ty.lanes {
            let at = self.value(format_args!(
                "getelementptr i8, ptr {address}, i32 {}",
                lane * step(ty)
            ));
            let one = self.value(format_args!("extractelement {ty} {value}, i32 {lane}"));
            self.put(ty.lane(), &one, &at, word, 1);
        }
    }

    /// memcpy of the function's own memory to another and back, memmove within, memset.
    pub fn copy(&mut self, how: u8, at: Pick, length: Pick) {
        const MOST: u32 = 16;
        let length = match length.is_multiple_of(2) {
            true => (u32::from(length / 2) % (MOST + 1)).to_string(),
            false => self.below(MOST + 1, length / 2),
        };
        let length = (
            "i64".to_owned(),
            self.value(format_args!("zext i32 {length} to i64")),
        );
        let plain = ("i1".to_owned(), "false".to_owned());
        let pointer = |address| ("ptr".to_owned(), address);
        let (own, _) = self.address(0, MOST, at, false);
        let (other, _) = self.address(1 + how / 4 % 3, MOST, at.rotate_left(5), false);
        let (name, arguments) = match how % 4 {
            0 => (
                "memcpy.p0.p0.i64",
                [pointer(own), pointer(other), length, plain],
            ),
            1 => (
                "memcpy.p0.p0.i64",
                [pointer(other), pointer(own), length, plain],
            ),
            2 => {
                let (from, _) = self.address(0, MOST, at.rotate_left(9), false);
                (
                    "memmove.p0.p0.i64",
                    [pointer(own), pointer(from), length, plain],
                )
            }
            _ => {
                let byte = ("i8".to_owned(), self.operand(Ty::int(8), at));
                ("memset.p0.i64", [pointer(other), byte, length, plain])
            }
        };
        self.intrinsic(name, "void", &arguments);
    }

    /// A read and a write at once, of a number that machines have.
    pub fn atomic(&mut self, op: u8, of: Ty, [to, at, a, b]: [Pick; 4]) {
        let bits = of.scalar.bits().next_power_of_two().clamp(8, 64);
        let ty = Ty::int(bits);
        let (a, b) = (self.operand(ty, a), self.operand(ty, b));
        let (address, _) = self.address(to as u8, bits / 8, at, true);
        let order = ["monotonic", "acq_rel", "seq_cst"][usize::from(op / 16 % 3)];
        let align = bits / 8;
        let word = match ATOMIC.get(usize::from(op % 16)) {
            Some(name) => {
                format!("atomicrmw {name} ptr {address}, {ty} {a} {order}, align {align}")
            }
            None => {
                let both = format!("{{ {ty}, i1 }}");
                let exchange = format!(
                    "cmpxchg ptr {address}, {ty} {a}, {ty} {b} {order} monotonic, align {align}"
                );
                let pair = self.value(exchange);
                let done = self.value(format_args!("extractvalue {both} {pair}, 1"));
                self.keep(I1, done);
                format!("extractvalue {both} {pair}, 0")
            }
        };
        let was = self.value(word);
        self.keep(ty, was);
    }

    /// A number of a constant table.
    pub fn table(&mut self, table: Pick, at: Pick) {
        let number = usize::from(table) % self.program.tables.len();
        let table = &self.program.tables[number];
        let ty = self.program.ty(table.of);
        let at = self.below(table.values.len() as u32, at);
        let array = format!("[{} x {ty}]", table.values.len());
        let address = self.value(format_args!(
            "getelementptr {array}, ptr @table{number}, i32 0, i32 {at}"
        ));
        let value = self.value(format_args!("load {ty}, ptr {address}"));
        self.keep(ty, value);
    }
}

/// Bytes from a lane to the next, where lanes are kept one by one.
fn step(ty: Ty) -> u32 {
    ty.lane().stored().map_or(1, Ty::bytes)
}

/// Bytes that a value takes in memory.
pub fn footprint(ty: Ty) -> u32 {
    ty.stored().map_or(step(ty) * ty.lanes, Ty::bytes)
}
