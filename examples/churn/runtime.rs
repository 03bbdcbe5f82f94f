//! The VM's runtime: values, objects, a thread's state, and the generic operations that jitted code
//! falls back to when a guard fails. The interpreter runs on these alone.

use crate::language::Op;
use crate::world::{Class, FIELDS, Kind, Random};

/// A value: an integer of 63 bits with the low bit set, or the address of an object.
pub type Value = i64;

/// A method's type for the host.
pub type MethodFn = unsafe extern "C" fn(*mut Thread, Value, Value) -> Value;

/// What jitted code knows of a thread; `vm.thread` in the prelude.
#[repr(C)]
#[derive(Debug, PartialEq, Eq)]
pub struct Thread {
    /// Methods entered.
    pub calls: u64,
    /// Which methods, and in which order.
    pub trace: u64,
    /// The innermost frame, while a method runs.
    pub frame: *const Frame,
}

impl Thread {
    pub const NEW: Thread = Thread {
        calls: 0,
        trace: 0,
        frame: std::ptr::null(),
    };

    /// What every method does first.
    pub fn enter(&mut self, mark: u64) {
        self.calls += 1;
        self.trace = self.trace.rotate_left(7) ^ mark;
    }
}

/// A frame as a method links it into its thread; `vm.frame` in the prelude.
#[repr(C)]
pub struct Frame {
    previous: *const Frame,
    mark: u64,
}

pub fn integer(value: i64) -> Value {
    (value << 1) | 1
}

/// The integer that a value is, where it is one.
pub fn as_integer(value: Value) -> Option<i64> {
    (value & 1 == 1).then_some(value >> 1)
}

/// An object: its shape, and its fields as the shape lays them out.
#[repr(C, align(8))]
pub struct Object {
    shape: u64,
    fields: [u8; FIELDS * 8],
}

impl Object {
    /// An object of `class` with fields of its own.
    pub fn new(class: Class, random: &mut Random) -> Self {
        let mut object = Object {
            shape: class.shape,
            fields: [0; FIELDS * 8],
        };
        let layout = class.layout();
        for (position, kind) in layout.kinds.iter().enumerate() {
            let bits = random.next();
            let bytes = match kind {
                // Doubles hold whole numbers, which come out as they went in.
                Kind::Double => (f64::from(bits as i32)).to_ne_bytes(),
                _ => bits.to_ne_bytes(),
            };
            let at = layout.offset(position) - 8;
            object.fields[at..at + kind.size()].copy_from_slice(&bytes[..kind.size()]);
        }
        object
    }

    /// The value that refers to this object, for as long as it stays where it is.
    pub fn value(&self) -> Value {
        std::ptr::from_ref(self).expose_provenance() as Value
    }

    fn field(&self, name: usize) -> i64 {
        let layout = Class { shape: self.shape }.layout();
        let position = layout.position[name];
        let at = layout.offset(position) - 8;
        let bytes = |n: usize| {
            let mut wide = [0; 8];
            wide[..n].copy_from_slice(&self.fields[at..at + n]);
            i64::from_le_bytes(wide)
        };
        match layout.kinds[position] {
            Kind::Byte => i64::from(bytes(1) as i8),
            Kind::Short => i64::from(bytes(2) as i16),
            Kind::Int => i64::from(bytes(4) as i32),
            Kind::Long => bytes(8),
            Kind::Double => f64::from_bits(bytes(8) as u64) as i64,
        }
    }
}

/// The object that a value refers to, if it is not an integer.
fn as_object<'a>(value: Value) -> Option<&'a Object> {
    // SAFETY: a value without the integer's bit comes from `Object::value`, and whoever calls a
    // method keeps the objects it passes until the call is over. Methods store no values.
    (value & 1 == 0).then(|| unsafe { &*std::ptr::with_exposed_provenance(value as usize) })
}

/// The integer that arithmetic sees.
fn coerce(value: Value) -> i64 {
    as_integer(value)
        .or_else(|| as_object(value).map(|o| (o.shape >> 9) as i64))
        .unwrap_or_default()
}

/// An operation on any two values.
pub fn arithmetic(op: Op, left: Value, right: Value) -> Value {
    let (left, right) = (coerce(left), coerce(right));
    integer(match op {
        Op::Add => left.wrapping_add(right),
        Op::Sub => left.wrapping_sub(right),
        Op::Mul => left.wrapping_mul(right),
        Op::Xor => left ^ right,
        Op::Less => i64::from(left < right),
    })
}

/// A field of any value, by name. Integers answer too.
pub fn field(value: Value, name: usize) -> Value {
    integer(match as_object(value) {
        Some(object) => object.field(name),
        None => (value >> 1) ^ name as i64,
    })
}

pub fn truthy(value: Value) -> bool {
    value != integer(0)
}

extern "C" fn vm_arithmetic(op: i64, left: Value, right: Value) -> Value {
    arithmetic(Op::ALL[op as usize], left, right)
}

extern "C" fn vm_field(value: Value, name: i64) -> Value {
    field(value, name as usize)
}

/// The functions that jitted code calls: name, parameters, address. All parameters and results are
/// 64-bit integers.
pub fn functions() -> [(&'static str, usize, *const ()); 2] {
    [
        ("vm_arithmetic", 3, vm_arithmetic as *const ()),
        ("vm_field", 2, vm_field as *const ()),
    ]
}
