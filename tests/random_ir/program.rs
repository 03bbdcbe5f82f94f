//! Programs as proptest makes and shrinks them: every value of these types stands for a program, so that whatever is
//! left out or made smaller is one again.
//!
//! Operands, types and functions are picked by number, each modulo how many there are where the step stands.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::types::{Scalar, Ty};

/// One of what there is.
pub type Pick = u16;

/// A value that stands for those of the paths that come together: its type, and one pick for all paths.
pub type Merged = (Pick, Pick);

#[derive(Clone, Debug)]
pub enum Step {
    /// Arithmetic: `op` of up to three values of a type.
    Compute {
        op: u8,
        of: Pick,
        a: Pick,
        b: Pick,
        c: Pick,
    },
    Compare {
        predicate: u8,
        of: Pick,
        a: Pick,
        b: Pick,
    },
    Select {
        of: Pick,
        on: Pick,
        a: Pick,
        b: Pick,
    },
    Convert {
        from: Pick,
        to: Pick,
        a: Pick,
        how: u8,
    },
    /// What vectors alone can: lanes out and in, shuffles, reductions.
    Lanes {
        op: u8,
        of: Pick,
        a: Pick,
        b: Pick,
        at: Pick,
    },
    Load {
        of: Pick,
        from: u8,
        at: Pick,
        volatile: bool,
    },
    Store {
        of: Pick,
        to: u8,
        at: Pick,
        a: Pick,
        volatile: bool,
    },
    /// memcpy, memmove, memset.
    Move { how: u8, at: Pick, length: Pick },
    Atomic {
        op: u8,
        of: Pick,
        to: u8,
        at: Pick,
        a: Pick,
        b: Pick,
    },
    /// A number of a constant table.
    Table { table: Pick, at: Pick },
    /// By name, or by an address out of a table of all functions of the same signature.
    Call {
        callee: Pick,
        arguments: Pick,
        own_memory: bool,
        by_table: Option<Pick>,
    },
    Branch {
        on: Pick,
        yes: Vec<Step>,
        no: Vec<Step>,
        merged: Vec<Merged>,
    },
    Switch {
        on: Pick,
        cases: Pick,
        arms: Vec<Vec<Step>>,
        merged: Vec<Merged>,
    },
    Loop {
        times: Pick,
        carried: Vec<Merged>,
        body: Vec<Step>,
    },
    /// Out of the innermost loop.
    Break { on: Pick },
    /// Returns early.
    Leave { on: Pick },
}

#[derive(Clone, Debug)]
pub struct Signature {
    pub parameters: Vec<Pick>,
    /// Several are returned as a struct.
    pub results: Vec<Pick>,
    /// Besides, 24 bytes are passed on the stack, as C passes structs.
    pub by_value: bool,
}

#[derive(Clone, Debug)]
pub struct Function {
    pub signature: Pick,
    pub steps: Vec<Step>,
    /// By which the results are picked.
    pub result: Pick,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub of: Pick,
    pub values: Vec<Pick>,
}

#[derive(Clone, Debug)]
pub struct Program {
    /// The types that its values have.
    pub palette: Vec<Ty>,
    pub tables: Vec<Table>,
    pub signatures: Vec<Signature>,
    pub functions: Vec<Function>,
    /// Each function is called with what is made of each of these.
    pub inputs: Vec<u64>,
}

impl Program {
    pub fn ty(&self, pick: Pick) -> Ty {
        self.palette[usize::from(pick) % self.palette.len()]
    }

    pub fn signature(&self, function: usize) -> &Signature {
        &self.signatures[self.signature_number(function)]
    }

    /// The functions with the signature of this one.
    pub fn alike(&self, function: usize) -> Vec<usize> {
        let number = self.signature_number(function);
        let all = 0..self.functions.len();
        all.filter(|&other| self.signature_number(other) == number)
            .collect()
    }

    fn signature_number(&self, function: usize) -> usize {
        usize::from(self.functions[function].signature) % self.signatures.len()
    }
}

/// No vectors of bits, but between a comparison and a choice: where a function returns one, LLVM 22 ends the process
/// at O0 on processors with registers for masks ("Cannot emit physreg copy instruction").
fn ty() -> impl Strategy<Value = Ty> {
    let vector = |bits, lanes| Ty {
        scalar: Scalar::Int(bits),
        lanes,
    };
    let floats = |scalar, lanes| Ty { scalar, lanes };
    prop_oneof![
        4 => prop::sample::select(vec![8, 16, 32, 64, 128]).prop_map(Ty::int),
        2 => (1u32..=128).prop_map(Ty::int),
        3 => prop::sample::select(vec![Scalar::Double, Scalar::Float, Scalar::Half])
            .prop_map(move |scalar| floats(scalar, 1)),
        2 => prop::sample::select(vec![
            vector(32, 4), vector(64, 2), vector(16, 8), vector(8, 16), vector(32, 8), vector(32, 3),
            vector(13, 2),
            floats(Scalar::Float, 4), floats(Scalar::Double, 2), floats(Scalar::Double, 4),
            floats(Scalar::Float, 3), floats(Scalar::Half, 4),
        ]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pick = any::<Pick>;
    let merged = move || vec((pick(), pick()), 0..3);
    let simple = prop_oneof![
        8 => (any::<u8>(), pick(), pick(), pick(), pick())
            .prop_map(|(op, of, a, b, c)| Step::Compute { op, of, a, b, c }),
        2 => (any::<u8>(), pick(), pick(), pick())
            .prop_map(|(predicate, of, a, b)| Step::Compare { predicate, of, a, b }),
        2 => (pick(), pick(), pick(), pick())
            .prop_map(|(of, on, a, b)| Step::Select { of, on, a, b }),
        3 => (pick(), pick(), pick(), any::<u8>())
            .prop_map(|(from, to, a, how)| Step::Convert { from, to, a, how }),
        2 => (any::<u8>(), pick(), pick(), pick(), pick())
            .prop_map(|(op, of, a, b, at)| Step::Lanes { op, of, a, b, at }),
        2 => (pick(), any::<u8>(), pick(), any::<bool>())
            .prop_map(|(of, from, at, volatile)| Step::Load { of, from, at, volatile }),
        3 => (pick(), any::<u8>(), pick(), pick(), any::<bool>())
            .prop_map(|(of, to, at, a, volatile)| Step::Store { of, to, at, a, volatile }),
        1 => (any::<u8>(), pick(), pick()).prop_map(|(how, at, length)| Step::Move { how, at, length }),
        1 => (any::<u8>(), pick(), any::<u8>(), pick(), pick(), pick())
            .prop_map(|(op, of, to, at, a, b)| Step::Atomic { op, of, to, at, a, b }),
        1 => (pick(), pick()).prop_map(|(table, at)| Step::Table { table, at }),
        3 => (pick(), pick(), any::<bool>(), prop::option::of(pick())).prop_map(
            |(callee, arguments, own_memory, by_table)| Step::Call {
                callee,
                arguments,
                own_memory,
                by_table,
            }
        ),
        1 => pick().prop_map(|on| Step::Break { on }),
        1 => pick().prop_map(|on| Step::Leave { on }),
    ];
    simple.prop_recursive(3, 24, 5, move |inner| {
        let steps = || vec(inner.clone(), 1..5);
        prop_oneof![
            (pick(), steps(), vec(inner.clone(), 0..5), merged()).prop_map(
                |(on, yes, no, merged)| Step::Branch {
                    on,
                    yes,
                    no,
                    merged
                }
            ),
            (
                pick(),
                pick(),
                vec(vec(inner.clone(), 0..3), 1..7),
                merged()
            )
                .prop_map(|(on, cases, arms, merged)| Step::Switch {
                    on,
                    cases,
                    arms,
                    merged
                }),
            (pick(), merged(), steps()).prop_map(|(times, carried, body)| Step::Loop {
                times,
                carried,
                body
            }),
        ]
    })
}

/// Programs of a few functions.
pub fn programs() -> impl Strategy<Value = Program> {
    let signature = (
        vec(any::<Pick>(), 0..6),
        vec(any::<Pick>(), 1..4),
        any::<bool>(),
    );
    let signature = signature.prop_map(|(parameters, results, by_value)| Signature {
        parameters,
        results,
        by_value,
    });
    let function = (any::<Pick>(), vec(step(), 1..14), any::<Pick>());
    let function = function.prop_map(|(signature, steps, result)| Function {
        signature,
        steps,
        result,
    });
    let table = (any::<Pick>(), vec(any::<Pick>(), 1..12));
    let table = table.prop_map(|(of, values)| Table { of, values });
    let parts = (
        vec(ty(), 2..8),
        vec(table, 1..4),
        vec(signature, 1..3),
        vec(function, 1..6),
        vec(any::<u64>(), 1..4),
    );
    parts.prop_map(|(palette, tables, signatures, functions, inputs)| Program {
        palette,
        tables,
        signatures,
        functions,
        inputs,
    })
}
