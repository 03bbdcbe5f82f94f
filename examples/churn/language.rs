//! The method language: its syntax tree, and the source of every method.
//!
//! A method takes two values and returns one. Values are integers or objects, and nothing says
//! which: each operation looks. Calls inside a method name a part of the same family, or a core
//! leaf; the call graph has no cycles.

use std::ops::Range;

use crate::world::{CONSTANTS, CORE, CORE_METHODS, FIELDS, Key, PARTS, PUBLIC_PARTS, Random};

/// Local variables of a method. The first two are its arguments.
pub const LOCALS: usize = 4;

/// The first part of the second level of calls.
const SECOND_LEVEL: u8 = 4;

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Xor,
    Less,
}

impl Op {
    pub const ALL: [Op; 5] = [Op::Add, Op::Sub, Op::Mul, Op::Xor, Op::Less];
}

pub enum Expr {
    Int(i32),
    /// A named constant of the family, inlined by the compiler.
    Constant(usize),
    Local(usize),
    /// A field of the value in a local, by name. `site` is the number of its inline cache.
    Field {
        local: usize,
        name: usize,
        site: u64,
    },
    Binary(Op, Box<Expr>, Box<Expr>),
    Call(Callee, Box<Expr>, Box<Expr>),
}

/// What a call names.
#[derive(Clone, Copy)]
pub enum Callee {
    Part(u8),
    Core(u8),
}

impl Callee {
    /// The method that it is when called from `caller`.
    pub fn key(self, caller: &Key) -> Key {
        match self {
            Callee::Part(part) => Key { part, ..*caller },
            Callee::Core(part) => Key {
                family: CORE,
                version: 0,
                part,
            },
        }
    }
}

pub enum Statement {
    Set(usize, Expr),
    If(Expr, Vec<Statement>, Vec<Statement>),
    Repeat(u32, Vec<Statement>),
}

/// A method's source.
pub struct Method {
    pub body: Vec<Statement>,
    pub result: Expr,
}

impl Method {
    /// The source of a method: the same for all versions of its family.
    pub fn of(seed: u64, family: u32, part: u8) -> Self {
        let random = Random::of(seed, &[3, family.into(), part.into()]);
        let mut writer = Writer {
            random,
            part,
            sites: 0,
        };
        if family == CORE {
            writer.leaf_method()
        } else {
            writer.method()
        }
    }
}

/// The sources of one family.
pub struct Family {
    pub methods: Vec<Method>,
}

impl Family {
    pub fn of(seed: u64, family: u32) -> Self {
        let parts = if family == CORE { CORE_METHODS } else { PARTS };
        Self {
            methods: (0..parts)
                .map(|part| Method::of(seed, family, part))
                .collect(),
        }
    }
}

struct Writer {
    random: Random,
    part: u8,
    sites: u64,
}

impl Writer {
    fn leaf_method(&mut self) -> Method {
        let body = vec![
            Statement::Set(2, self.binary(1)),
            Statement::Set(3, self.binary(1)),
        ];
        Method {
            body,
            result: self.fold(),
        }
    }

    fn method(&mut self) -> Method {
        let cached = Statement::Set(2, self.field(0));
        let first = Statement::Set(3, self.binary(1));
        let turns = 2 + self.random.below(6) as u32;
        let mut turn = vec![Statement::Set(2, self.binary(1)), self.set()];
        if self.random.chance(30) {
            turn.push(Statement::Set(3, self.core_call()));
        }
        let looped = Statement::Repeat(turns, turn);
        let call = Statement::Set(3, self.call());
        let branch = Statement::If(self.binary(0), vec![self.set()], Vec::new());
        let last = Statement::Set(2, self.call());
        let mut body = vec![cached, first, looped, call, branch, last];
        // Not all methods have one outline.
        if self.random.chance(50) {
            body.swap(2, 4);
        }
        Method {
            body,
            result: self.fold(),
        }
    }

    /// The result depends on every local, so that an error anywhere is seen.
    fn fold(&mut self) -> Expr {
        let locals = binary(Op::Xor, Expr::Local(2), Expr::Local(3));
        let arguments = binary(Op::Add, Expr::Local(0), Expr::Local(1));
        binary(Op::Sub, binary(Op::Xor, locals, arguments), self.constant())
    }

    fn set(&mut self) -> Statement {
        let local = 2 + self.random.below(LOCALS - 2);
        Statement::Set(local, self.binary(1))
    }

    fn binary(&mut self, depth: u32) -> Expr {
        let op = Op::ALL[self.random.below(Op::ALL.len())];
        let left = if depth > 0 && self.random.chance(20) {
            self.binary(depth - 1)
        } else {
            self.leaf_expr()
        };
        binary(op, left, self.leaf_expr())
    }

    fn leaf_expr(&mut self) -> Expr {
        match self.random.below(10) {
            0 => Expr::Int(self.random.below(1000) as i32 - 500),
            1..=2 => self.constant(),
            3 => {
                let local = self.random.below(2);
                self.field(local)
            }
            _ => Expr::Local(self.random.below(LOCALS)),
        }
    }

    fn constant(&mut self) -> Expr {
        Expr::Constant(self.random.below(CONSTANTS))
    }

    fn field(&mut self, local: usize) -> Expr {
        self.sites += 1;
        Expr::Field {
            local,
            name: self.random.below(FIELDS),
            site: self.sites,
        }
    }

    /// A call of a part further down, or of a core leaf.
    fn call(&mut self) -> Expr {
        let parts = callees(self.part);
        if !parts.is_empty() && self.random.chance(60) {
            let part = parts.start + self.random.below(parts.len()) as u8;
            return self.call_of(Callee::Part(part));
        }
        self.core_call()
    }

    fn core_call(&mut self) -> Expr {
        let core = self.random.below(CORE_METHODS.into()) as u8;
        self.call_of(Callee::Core(core))
    }

    fn call_of(&mut self, callee: Callee) -> Expr {
        Expr::Call(
            callee,
            Box::new(self.leaf_expr()),
            Box::new(self.leaf_expr()),
        )
    }
}

/// The parts that a part may call. Three levels, the last of which is private: a call runs a dozen
/// methods at most.
fn callees(part: u8) -> Range<u8> {
    match part {
        0..SECOND_LEVEL => SECOND_LEVEL..PARTS,
        SECOND_LEVEL..PUBLIC_PARTS => PUBLIC_PARTS..PARTS,
        _ => 0..0,
    }
}

fn binary(op: Op, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}
