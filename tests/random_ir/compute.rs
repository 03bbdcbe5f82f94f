//! Arithmetic, comparisons and conversions, each defined for all operands: shifts by less than the width, divisors that
//! are neither zero nor overflow, conversions to integers that saturate.

use crate::body::Body;
use crate::program::Pick;
use crate::types::{I1, I32, Scalar, Ty, mask};

const INT_PREDICATES: [&str; 10] = [
    "eq", "ne", "ult", "slt", "ugt", "sgt", "ule", "sle", "uge", "sge",
];

const FLOAT_PREDICATES: [&str; 14] = [
    "oeq", "une", "olt", "ogt", "ole", "oge", "one", "ord", "uno", "ueq", "ult", "ugt", "ule",
    "uge",
];

/// Instructions and intrinsics of two integers that are defined for all.
const INT_PLAIN: [&str; 6] = ["add", "sub", "mul", "xor", "and", "or"];
const INT_SHIFTS: [&str; 3] = ["shl", "lshr", "ashr"];
const INT_DIVISIONS: [&str; 4] = ["udiv", "urem", "sdiv", "srem"];
const INT_PAIRS: [&str; 8] = [
    "smin", "smax", "umin", "umax", "uadd.sat", "sadd.sat", "usub.sat", "ssub.sat",
];
const INT_OVERFLOWS: [&str; 6] = ["uadd", "sadd", "usub", "ssub", "umul", "smul"];
const INT_SINGLE: [&str; 2] = ["ctpop", "bitreverse"];
const INT_FLAGGED: [&str; 3] = ["ctlz", "cttz", "abs"];
const INT_FUNNELS: [&str; 2] = ["fshl", "fshr"];

const FLOAT_PLAIN: [&str; 4] = ["fadd", "fsub", "fmul", "fdiv"];
const FLOAT_PAIRS: [&str; 2] = ["minimum", "maximum"];
const FLOAT_SINGLE: [&str; 9] = [
    "sqrt",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "nearbyint",
    "roundeven",
    "round",
    "fabs",
];

/// One of a list, by a number that is made one of the next list where it is beyond.
fn take<'a>(list: &[&'a str], at: &mut usize) -> Option<&'a str> {
    let found = list.get(*at).copied();
    *at = at.wrapping_sub(list.len());
    found
}

impl Body<'_> {
    pub fn compute(&mut self, op: u8, ty: Ty, [a, b, c]: [Pick; 3]) {
        let (a, b, c) = (
            self.operand(ty, a),
            self.operand(ty, b),
            self.operand(ty, c),
        );
        let result = match ty.is_int() {
            true => self.of_ints(op.into(), ty, &a, &b, &c),
            false => self.of_floats(op.into(), ty, &a, &b, &c),
        };
        self.keep(ty, result);
    }

    fn of_ints(&mut self, op: usize, ty: Ty, a: &str, b: &str, c: &str) -> String {
        let mut at = op % 36;
        let width = ty.splat(ty.scalar.bits());
        if let Some(plain) = take(&INT_PLAIN, &mut at) {
            return self.value(format_args!("{plain} {ty} {a}, {b}"));
        }
        if let Some(shift) = take(&INT_SHIFTS, &mut at) {
            let by = self.value(format_args!("urem {ty} {b}, {width}"));
            return self.value(format_args!("{shift} {ty} {a}, {by}"));
        }
        if let Some(divide) = take(&INT_DIVISIONS, &mut at) {
            // Of one bit there is no signed divisor but the one that overflows.
            let divide = match ty.scalar.bits() {
                1 => divide.replace('s', "u"),
                _ => divide.to_owned(),
            };
            let by = self.divisor(ty, b, divide.starts_with('s'));
            return self.value(format_args!("{divide} {ty} {a}, {by}"));
        }
        if let Some(pair) = take(&INT_PAIRS, &mut at) {
            return self.plain(pair, ty, &[a, b]);
        }
        if let Some(overflow) = take(&INT_OVERFLOWS, &mut at) {
            return self.with_overflow(overflow, ty, a, b);
        }
        if let Some(single) = take(&INT_SINGLE, &mut at) {
            return self.plain(single, ty, &[a]);
        }
        if let Some(flagged) = take(&INT_FLAGGED, &mut at) {
            let (name, flag) = (
                format!("{flagged}.{}", ty.suffix()),
                ("i1".to_owned(), "false".to_owned()),
            );
            return self.intrinsic(
                &name,
                &ty.to_string(),
                &[(ty.to_string(), a.to_owned()), flag],
            );
        }
        if let Some(funnel) = take(&INT_FUNNELS, &mut at) {
            return self.plain(funnel, ty, &[a, b, c]);
        }
        match at {
            0 if ty.scalar.bits().is_multiple_of(16) => self.plain("bswap", ty, &[a]),
            _ => self.value(format_args!("freeze {ty} {a}")),
        }
    }

    /// Neither zero, nor the -1 by which the smallest number overflows.
    fn divisor(&mut self, ty: Ty, b: &str, signed: bool) -> String {
        let is = ty.with(I1.scalar);
        let bad = self.value(format_args!("icmp eq {ty} {b}, {}", ty.splat(0)));
        let by = self.value(format_args!(
            "select {is} {bad}, {ty} {}, {ty} {b}",
            ty.splat(1)
        ));
        if !signed {
            return by;
        }
        let minus = ty.splat(mask(ty.scalar.bits()));
        let bad = self.value(format_args!("icmp eq {ty} {by}, {minus}"));
        self.value(format_args!(
            "select {is} {bad}, {ty} {}, {ty} {by}",
            ty.splat(2)
        ))
    }

    /// The result; whether it overflowed is kept too.
    fn with_overflow(&mut self, what: &str, ty: Ty, a: &str, b: &str) -> String {
        let is = ty.with(I1.scalar);
        let (name, both) = (
            format!("{what}.with.overflow.{}", ty.suffix()),
            format!("{{ {ty}, {is} }}"),
        );
        let arguments = [a, b].map(|v| (ty.to_string(), v.to_owned()));
        let pair = self.intrinsic(&name, &both, &arguments);
        let overflows = self.value(format_args!("extractvalue {both} {pair}, 1"));
        self.keep(is, overflows);
        self.value(format_args!("extractvalue {both} {pair}, 0"))
    }

    fn of_floats(&mut self, op: usize, ty: Ty, a: &str, b: &str, c: &str) -> String {
        let mut at = op % 19;
        if let Some(plain) = take(&FLOAT_PLAIN, &mut at) {
            return self.value(format_args!("{plain} {ty} {a}, {b}"));
        }
        if let Some(pair) = take(&FLOAT_PAIRS, &mut at) {
            return self.plain(pair, ty, &[a, b]);
        }
        if let Some(single) = take(&FLOAT_SINGLE, &mut at) {
            return self.plain(single, ty, &[a]);
        }
        match at {
            0 => {
                // The sign of a NaN is anything.
                let (ints, bits) = self.bits(ty, b);
                let sign = self.value(format_args!("bitcast {ints} {bits} to {ty}"));
                self.plain("copysign", ty, &[a, &sign])
            }
            // Of halves it is made of floats, and rounded twice.
            1 if ty.scalar != Scalar::Half => self.plain("fma", ty, &[a, b, c]),
            2 => self.value(format_args!("frem {ty} {a}, {b}")),
            _ => self.value(format_args!("fneg {ty} {a}")),
        }
    }

    pub fn compare(&mut self, predicate: u8, ty: Ty, a: Pick, b: Pick) {
        let (a, b) = (self.operand(ty, a), self.operand(ty, b));
        let predicate = usize::from(predicate);
        let (compare, predicate) = match ty.is_int() {
            true => ("icmp", INT_PREDICATES[predicate % INT_PREDICATES.len()]),
            false => ("fcmp", FLOAT_PREDICATES[predicate % FLOAT_PREDICATES.len()]),
        };
        let result = self.value(format_args!("{compare} {predicate} {ty} {a}, {b}"));
        self.keep(ty.with(I1.scalar), result);
    }

    /// By one truth value, or by one for each lane.
    pub fn select(&mut self, ty: Ty, on: Pick, a: Pick, b: Pick) {
        let is = ty.with(I1.scalar);
        let (a, b) = (self.operand(ty, a), self.operand(ty, b));
        let result = if ty.is_vector() && on.is_multiple_of(2) {
            let on = self.operand(is, on / 2);
            self.value(format_args!("select {is} {on}, {ty} {a}, {ty} {b}"))
        } else {
            let on = self.condition(on / 2);
            self.value(format_args!("select i1 {on}, {ty} {a}, {ty} {b}"))
        };
        self.keep(ty, result);
    }

    /// A value as one of another type: the bits of it where that goes, or the number.
    pub fn convert(&mut self, from: Ty, to: Ty, a: Pick, how: u8) {
        let a = self.operand(from, a);
        let whole = |ty: Ty| ty.scalar.bits().is_multiple_of(8);
        let result =
            if from.bits() == to.bits() && whole(from) && whole(to) && how.is_multiple_of(3) {
                let (ints, bits) = self.bits(from, &a);
                match ints == to {
                    true => bits,
                    false => self.value(format_args!("bitcast {ints} {bits} to {to}")),
                }
            } else if from.lanes == to.lanes {
                self.number(from, to, &a, how)
            } else {
                let lane = match from.is_vector() {
                    true => self.value(format_args!("extractelement {from} {a}, i32 0")),
                    false => a,
                };
                let number = self.number(from.lane(), to.lane(), &lane, how);
                match to.is_vector() {
                    true => self.splat(to, &number),
                    false => number,
                }
            };
        self.keep(to, result);
    }

    fn number(&mut self, from: Ty, to: Ty, a: &str, how: u8) -> String {
        let signed = how & 1 == 1;
        match (from.is_int(), to.is_int()) {
            (true, true) => self.resize(from, to, a, signed),
            (true, false) => {
                let cast = if signed { "sitofp" } else { "uitofp" };
                self.value(format_args!("{cast} {from} {a} to {to}"))
            }
            (false, true) => {
                let cast = if signed { "fptosi" } else { "fptoui" };
                let name = format!("{cast}.sat.{}.{}", to.suffix(), from.suffix());
                self.intrinsic(&name, &to.to_string(), &[(from.to_string(), a.to_owned())])
            }
            (false, false) => match (from.scalar.bits(), to.scalar.bits()) {
                (was, is) if was == is => self.value(format_args!("fneg {from} {a}")),
                (was, is) if was > is => self.value(format_args!("fptrunc {from} {a} to {to}")),
                _ => self.value(format_args!("fpext {from} {a} to {to}")),
            },
        }
    }

    fn splat(&mut self, ty: Ty, number: &str) -> String {
        let (lane, zero) = (ty.lane(), "zeroinitializer");
        let first = self.value(format_args!(
            "insertelement {ty} {zero}, {lane} {number}, i32 0"
        ));
        let mask = Ty {
            lanes: ty.lanes,
            ..I32
        };
        self.value(format_args!(
            "shufflevector {ty} {first}, {ty} {zero}, {mask} {zero}"
        ))
    }

    /// What vectors alone can. (Of a number that is none, its last bits are looked at.)
    pub fn lanes(&mut self, op: u8, ty: Ty, [a, b, at]: [Pick; 3]) {
        let (first, second) = (self.operand(ty, a), self.operand(ty, b));
        if !ty.is_vector() {
            return self.convert(ty, I1, a, 1);
        }
        let lane = ty.lane();
        match op % 4 {
            0 => {
                let at = self.below(ty.lanes, at);
                let number = self.value(format_args!("extractelement {ty} {first}, i32 {at}"));
                self.keep(lane, number);
            }
            1 => {
                let (at, number) = (self.below(ty.lanes, at), self.operand(lane, b));
                let with = format!("insertelement {ty} {first}, {lane} {number}, i32 {at}");
                let result = self.value(with);
                self.keep(ty, result);
            }
            2 => {
                let order =
                    |n: u32| (u64::from(at) * u64::from(n + 1) / 3) % u64::from(2 * ty.lanes);
                let mask = (0..ty.lanes).map(|n| format!("i32 {}", order(n)));
                let mask = format!(
                    "<{} x i32> <{}>",
                    ty.lanes,
                    mask.collect::<Vec<_>>().join(", ")
                );
                let result = self.value(format_args!(
                    "shufflevector {ty} {first}, {ty} {second}, {mask}"
                ));
                self.keep(ty, result);
            }
            _ => {
                let number = self.reduce(ty, at, &first);
                self.keep(lane, number);
            }
        }
    }

    fn reduce(&mut self, ty: Ty, how: Pick, value: &str) -> String {
        let lane = ty.lane().to_string();
        let how = usize::from(how);
        let vector = (ty.to_string(), value.to_owned());
        let (name, start) = match ty.is_int() {
            true => {
                const NAMES: [&str; 9] = [
                    "add", "mul", "xor", "and", "or", "umax", "umin", "smax", "smin",
                ];
                (NAMES[how % NAMES.len()], None)
            }
            false => match how % 4 {
                // In order: without `reassoc`.
                0 => ("fadd", Some("-0.0")),
                1 => ("fmul", Some("1.0")),
                2 => ("fmaximum", None),
                _ => ("fminimum", None),
            },
        };
        let start = start.map(|start| (lane.clone(), start.to_owned()));
        let arguments: Vec<_> = start.into_iter().chain([vector]).collect();
        let name = format!("vector.reduce.{name}.{}", ty.suffix());
        self.intrinsic(&name, &lane, &arguments)
    }
}
