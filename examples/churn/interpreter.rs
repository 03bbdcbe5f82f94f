//! The interpreter that every result is checked against. It knows neither guards nor inline caches:
//! it looks at values as it finds them.

use crate::language::{Expr, Family, LOCALS, Method, Statement};
use crate::runtime::{Thread, Value, arithmetic, field, integer, truthy};
use crate::world::{CORE, Key, Profile};

/// The core leaves and what they are specialised to: the same in every family.
pub struct Core {
    seed: u64,
    family: Family,
    profile: Profile,
}

impl Core {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            family: Family::of(seed, CORE),
            profile: Profile::of(seed, CORE, 0),
        }
    }
}

/// One family in one version, ready to be interpreted.
pub struct Program<'a> {
    core: &'a Core,
    family: Family,
    pub profile: Profile,
    key: Key,
}

impl<'a> Program<'a> {
    pub fn new(core: &'a Core, family: u32, version: u32) -> Self {
        Self {
            core,
            family: Family::of(core.seed, family),
            profile: Profile::of(core.seed, family, version),
            key: Key {
                family,
                version,
                part: 0,
            },
        }
    }

    /// The key of a part of this program.
    pub fn key(&self, part: u8) -> Key {
        Key { part, ..self.key }
    }

    /// What a call of `part` returns and does to the thread.
    pub fn call(&self, part: u8, thread: &mut Thread, left: Value, right: Value) -> Value {
        self.run(self.key(part), thread, left, right)
    }

    /// The same of a method that this program calls: its own, or one of the core.
    pub fn call_of(&self, key: Key, thread: &mut Thread, left: Value, right: Value) -> Value {
        self.run(key, thread, left, right)
    }

    fn run(&self, key: Key, thread: &mut Thread, left: Value, right: Value) -> Value {
        thread.enter(key.mark(self.core.seed));
        let (family, profile) = if key.family == CORE {
            (&self.core.family, &self.core.profile)
        } else {
            (&self.family, &self.profile)
        };
        let method: &Method = &family.methods[usize::from(key.part)];
        let mut locals = [integer(0); LOCALS];
        locals[0] = left;
        locals[1] = right;
        let mut activation = Activation {
            program: self,
            key,
            profile,
            thread,
            locals,
        };
        activation.statements(&method.body);
        activation.value(&method.result)
    }
}

struct Activation<'p, 't> {
    program: &'p Program<'p>,
    key: Key,
    profile: &'p Profile,
    thread: &'t mut Thread,
    locals: [Value; LOCALS],
}

impl Activation<'_, '_> {
    fn statements(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement {
                Statement::Set(local, expr) => self.locals[*local] = self.value(expr),
                Statement::If(condition, then, otherwise) => {
                    let chosen = if truthy(self.value(condition)) {
                        then
                    } else {
                        otherwise
                    };
                    self.statements(chosen);
                }
                Statement::Repeat(turns, body) => (0..*turns).for_each(|_| self.statements(body)),
            }
        }
    }

    fn value(&mut self, expr: &Expr) -> Value {
        match expr {
            Expr::Int(n) => integer((*n).into()),
            Expr::Constant(n) => integer(self.profile.constants[*n]),
            Expr::Local(n) => self.locals[*n],
            Expr::Field { local, name, .. } => field(self.locals[*local], *name),
            Expr::Binary(op, left, right) => {
                let left = self.value(left);
                let right = self.value(right);
                arithmetic(*op, left, right)
            }
            Expr::Call(callee, left, right) => {
                let left = self.value(left);
                let right = self.value(right);
                self.program
                    .run(callee.key(&self.key), self.thread, left, right)
            }
        }
    }
}
