//! The body of a function while it is written: its text, the values in reach, and how they are picked.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::program::{Merged, Pick, Program};
use crate::types::{I1, I32, Scalar, Ty, mask};

/// A value that later steps may use.
pub type Value = (Ty, String);

pub struct Body<'p> {
    pub program: &'p Program,
    /// The number of the function.
    pub own: usize,
    pub text: String,
    /// Intrinsics and functions of the runtime, declared.
    pub declared: BTreeSet<String>,
    /// Functions of the program that it names.
    pub named: BTreeSet<usize>,
    /// What is defined on every path to here.
    pub reach: Vec<Value>,
    /// The block that is being written.
    pub block: String,
    /// Where the loops around lead to, from the outermost.
    pub ends: Vec<String>,
    names: u32,
}

impl<'p> Body<'p> {
    pub fn new(program: &'p Program, own: usize) -> Self {
        Self {
            program,
            own,
            text: String::new(),
            declared: BTreeSet::new(),
            named: BTreeSet::new(),
            reach: Vec::new(),
            block: String::new(),
            ends: Vec::new(),
            names: 0,
        }
    }

    pub fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    pub fn line(&mut self, line: impl Display) {
        self.text.push_str(&format!("  {line}\n"));
    }

    /// An instruction with a result, whose name this returns.
    pub fn value(&mut self, instruction: impl Display) -> String {
        let name = self.name("%v");
        self.line(format_args!("{name} = {instruction}"));
        name
    }

    /// A value that later steps may use.
    pub fn keep(&mut self, ty: Ty, value: String) {
        self.reach.push((ty, value));
    }

    pub fn begin(&mut self, block: &str) {
        self.text.push_str(&format!("{block}:\n"));
        block.clone_into(&mut self.block);
    }

    pub fn jump(&mut self, to: &str) {
        self.line(format_args!("br label %{to}"));
    }

    /// A call of an intrinsic, which this declares.
    pub fn intrinsic(
        &mut self,
        name: &str,
        result: &str,
        arguments: &[(String, String)],
    ) -> String {
        let list = |with: fn(&(String, String)) -> String| {
            let all: Vec<String> = arguments.iter().map(with).collect();
            all.join(", ")
        };
        let (types, values) = (list(|a| a.0.clone()), list(|a| format!("{} {}", a.0, a.1)));
        self.declared
            .insert(format!("declare {result} @llvm.{name}({types})"));
        let call = format!("call {result} @llvm.{name}({values})");
        if result == "void" {
            self.line(call);
            return String::new();
        }
        self.value(call)
    }

    /// An intrinsic of which arguments and result are of one type.
    pub fn plain(&mut self, name: &str, ty: Ty, arguments: &[&str]) -> String {
        let full = format!("{name}.{}", ty.suffix());
        let typed: Vec<_> = arguments
            .iter()
            .map(|a| (ty.to_string(), (*a).to_owned()))
            .collect();
        self.intrinsic(&full, &ty.to_string(), &typed)
    }

    /// A value of this type: one in reach, or a constant.
    pub fn operand(&self, ty: Ty, pick: Pick) -> String {
        let fit: Vec<&Value> = self.reach.iter().filter(|value| value.0 == ty).collect();
        if fit.is_empty() || pick % 5 == 4 {
            return ty.constant(u64::from(pick) / 5);
        }
        // Of small picks the last, so that what is shrunk reads in order.
        fit[fit.len() - 1 - usize::from(pick / 5) % fit.len()]
            .1
            .clone()
    }

    /// Any integer in reach, or else a constant.
    pub fn integer(&self, pick: Pick) -> Value {
        let is_integer = |value: &&Value| value.0.is_int() && !value.0.is_vector();
        let fit: Vec<&Value> = self.reach.iter().filter(is_integer).collect();
        if fit.is_empty() {
            return (I32, I32.constant(pick.into()));
        }
        fit[fit.len() - 1 - usize::from(pick) % fit.len()].clone()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32, pick: Pick) -> String {
        if pick.is_multiple_of(3) {
            return (u32::from(pick / 3) % end).to_string();
        }
        let (ty, value) = self.integer(pick);
        let wide = self.resize(ty, I32, &value, false);
        self.value(format_args!("urem i32 {wide}, {end}"))
    }

    /// A truth value.
    pub fn condition(&mut self, pick: Pick) -> String {
        let (ty, value) = self.integer(pick / 4);
        if ty == I1 {
            return value;
        }
        let bound = ty.constant(u64::from(pick));
        let predicate = ["slt", "ult", "eq", "sgt"][usize::from(pick % 4)];
        self.value(format_args!("icmp {predicate} {ty} {value}, {bound}"))
    }

    /// An integer, or integers, in another width.
    pub fn resize(&mut self, from: Ty, to: Ty, value: &str, signed: bool) -> String {
        let cast = match (from.scalar.bits(), to.scalar.bits()) {
            (was, is) if was == is => return value.to_owned(),
            (was, is) if was > is => "trunc",
            _ if signed => "sext",
            _ => "zext",
        };
        self.value(format_args!("{cast} {from} {value} to {to}"))
    }

    /// The bits of numbers. Which NaN an operation gives is not said by IR, so whoever looks at bits
    /// sees the same one for all.
    pub fn bits(&mut self, ty: Ty, value: &str) -> Value {
        let (Some(infinity), Some(nan)) = (ty.scalar.infinity(), ty.scalar.nan()) else {
            return (ty, value.to_owned());
        };
        let ints = ty.as_ints();
        let is = ty.with(Scalar::Int(1));
        let (infinity, nan) = (ints.splat(infinity), ints.splat(nan));
        let positive = ints.splat(mask(ty.scalar.bits()) >> 1);
        let bits = self.value(format_args!("bitcast {ty} {value} to {ints}"));
        let magnitude = self.value(format_args!("and {ints} {bits}, {positive}"));
        let is_nan = self.value(format_args!("icmp ugt {ints} {magnitude}, {infinity}"));
        let one = self.value(format_args!(
            "select {is} {is_nan}, {ints} {nan}, {ints} {bits}"
        ));
        (ints, one)
    }

    /// The values that a path brings along to where paths come together.
    pub fn bring(&self, merged: &[Merged]) -> Vec<Value> {
        let value = |&(of, pick): &Merged| {
            let ty = self.program.ty(of);
            (ty, self.operand(ty, pick))
        };
        merged.iter().map(value).collect()
    }

    /// Where paths come together: from each the block that it ends with, and what it brings.
    pub fn meet(&mut self, paths: &[(String, Vec<Value>)]) {
        let Some((_, first)) = paths.first() else {
            return;
        };
        for (at, (ty, _)) in first.iter().enumerate() {
            let from = paths
                .iter()
                .map(|(block, values)| format!("[ {}, %{block} ]", values[at].1));
            let phi = self.value(format_args!(
                "phi {ty} {}",
                from.collect::<Vec<_>>().join(", ")
            ));
            self.keep(*ty, phi);
        }
    }
}
