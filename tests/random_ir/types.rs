//! The types of values, and constants of them, as IR has them.

use std::fmt;

/// A number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    Int(u32),
    Half,
    Float,
    Double,
}

/// A number, or a vector of some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ty {
    pub scalar: Scalar,
    /// 1 is no vector.
    pub lanes: u32,
}

pub const I1: Ty = Ty::int(1);
pub const I32: Ty = Ty::int(32);
pub const I64: Ty = Ty::int(64);

impl Scalar {
    pub fn bits(self) -> u32 {
        match self {
            Scalar::Int(bits) => bits,
            Scalar::Half => 16,
            Scalar::Float => 32,
            Scalar::Double => 64,
        }
    }

    /// As names of intrinsics have it.
    pub fn suffix(self) -> String {
        match self {
            Scalar::Int(bits) => format!("i{bits}"),
            other => format!("f{}", other.bits()),
        }
    }

    /// The bits of its infinity, if it has one: whatever is above, but for the sign, is NaN.
    pub fn infinity(self) -> Option<u64> {
        match self {
            Scalar::Int(_) => None,
            Scalar::Half => Some(0x7C00),
            Scalar::Float => Some(0x7F80_0000),
            Scalar::Double => Some(0x7FF0_0000_0000_0000),
        }
    }

    /// The bits of the NaN that stands for all.
    pub fn nan(self) -> Option<u64> {
        match self {
            Scalar::Int(_) => None,
            Scalar::Half => Some(0x7E00),
            Scalar::Float => Some(0x7FC0_0000),
            Scalar::Double => Some(0x7FF8_0000_0000_0000),
        }
    }

    /// A constant: small seeds are small numbers, and others the ends of the range or anything.
    fn constant(self, seed: u64) -> String {
        match self {
            Scalar::Int(bits) => (integer(seed) & mask(bits)).to_string(),
            Scalar::Double => format!("0x{:016X}", double(seed).to_bits()),
            // IR has floats as doubles of the same value.
            Scalar::Float => {
                format!("0x{:016X}", f64::from(double(seed) as f32).to_bits())
            }
            Scalar::Half => {
                let few = [
                    0x3C00, 0x8000, 0xC100, 0x7BFF, 0x7C00, 0x7E00, 0x0001, 0x3555,
                ];
                let bits: u16 = match seed {
                    0 => 0,
                    seed if seed.is_multiple_of(3) => 0x3000 + (mix(seed) % 0x2000) as u16,
                    seed => few[(seed % 8) as usize],
                };
                format!("0xH{bits:04X}")
            }
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Int(bits) => write!(f, "i{bits}"),
            Scalar::Half => f.write_str("half"),
            Scalar::Float => f.write_str("float"),
            Scalar::Double => f.write_str("double"),
        }
    }
}

impl Ty {
    pub const fn int(bits: u32) -> Self {
        let scalar = Scalar::Int(bits);
        Self { scalar, lanes: 1 }
    }

    pub const fn with(self, scalar: Scalar) -> Self {
        Self { scalar, ..self }
    }

    pub const fn lane(self) -> Self {
        Self { lanes: 1, ..self }
    }

    pub fn is_vector(self) -> bool {
        self.lanes > 1
    }

    pub fn is_int(self) -> bool {
        matches!(self.scalar, Scalar::Int(_))
    }

    pub fn bits(self) -> u32 {
        self.scalar.bits() * self.lanes
    }

    /// Integers of the same size, as many.
    pub fn as_ints(self) -> Self {
        self.with(Scalar::Int(self.scalar.bits()))
    }

    /// The type that it is kept in memory as: of whole bytes, so that others can read what it left. None
    /// for vectors of bits, which memory has packed.
    pub fn stored(self) -> Option<Self> {
        let whole = self.scalar.bits().next_multiple_of(8);
        match self.scalar {
            Scalar::Int(_) if !self.is_vector() => Some(Self::int(whole)),
            Scalar::Int(bits) => (bits == whole).then_some(self),
            _ => Some(self),
        }
    }

    /// Bytes in memory, of a type that is kept as it is.
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// As names of intrinsics have it.
    pub fn suffix(self) -> String {
        match self.lanes {
            1 => self.scalar.suffix(),
            lanes => format!("v{lanes}{}", self.scalar.suffix()),
        }
    }

    /// A constant without the type.
    pub fn constant(self, seed: u64) -> String {
        self.lanes_of(|lane| self.scalar.constant(seed ^ mix(lane) & (lane << 8)))
    }

    /// The same number in each lane.
    pub fn splat(self, number: impl fmt::Display) -> String {
        self.lanes_of(|_| number.to_string())
    }

    fn lanes_of(self, mut lane: impl FnMut(u64) -> String) -> String {
        if !self.is_vector() {
            return lane(0);
        }
        let lanes = (0..self.lanes).map(|n| format!("{} {}", self.scalar, lane(n.into())));
        format!("<{}>", lanes.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lanes {
            1 => self.scalar.fmt(f),
            lanes => write!(f, "<{lanes} x {}>", self.scalar),
        }
    }
}

pub fn mask(bits: u32) -> u128 {
    u128::MAX >> (128 - bits)
}

/// Numbers that look like any, from ones that do not.
pub fn mix(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
}

fn integer(seed: u64) -> u128 {
    let shift = (mix(seed) % 128) as u32;
    match seed % 6 {
        _ if seed < 12 => seed.into(),
        0 => u128::MAX,
        1 => 1 << shift,
        2 => (1 << shift) - 1,
        3 => !(1 << shift),
        4 => u128::from(seed),
        _ => u128::from(mix(seed)) << 64 | u128::from(mix(!seed)),
    }
}

fn double(seed: u64) -> f64 {
    const FEW: [f64; 12] = [
        1.0,
        -0.0,
        -2.25,
        0.1,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::MAX,
        5e-324,
        -1e-40,
        4_294_967_296.5,
        -9.3e18,
    ];
    match seed {
        0 => 0.0,
        // The NaN that stands for all is positive.
        seed if seed % 3 > 0 => {
            let number = FEW[(seed % 12) as usize];
            if number.is_nan() {
                f64::from_bits(0x7FF8 << 48)
            } else {
                number
            }
        }
        seed => (mix(seed) as i64 >> (seed % 64)) as f64 / 16.0,
    }
}
