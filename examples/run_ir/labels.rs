//! Labels in the program's data: which tables go with their function, and which functions must stand with the data.
//!
//! The address of a label (`&&label`) can only be written down in the module that its function is in. A table of
//! labels that nobody but the function reads goes with it as a constant. Any other (written to, read or pointed to
//! from elsewhere, of several functions) lives as long as the program, and so its functions stand in the piece of the
//! globals, and have no code besides.
//!
//! Whether a label that a function reads from its own table outlives an activation is another question, and inkpot's:
//! such a method stays ([`inkpot::Unit::stay`]).

use crate::ir::{self, Module, Value};
use crate::reading::{is_dead, solely_read};
use inkwell::llvm_sys::LLVMValueKind;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The tables of labels, and the functions to keep.
#[derive(Default)]
pub struct Labels<'m> {
    /// The tables that go with their function.
    pub tables: HashMap<Value<'m>, Value<'m>>,
    /// All globals that hold labels, by the functions that these are of.
    pub holders: HashMap<Value<'m>, BTreeSet<Value<'m>>>,
    /// The functions that stand with the globals.
    pub kept: BTreeSet<Value<'m>>,
}

/// Finds all labels of the program.
pub fn find<'m>(module: &'m Module<'_>) -> Labels<'m> {
    let mut labels = Labels::default();
    for function in ir::functions(module) {
        for block in function.blocks() {
            for user in block.users() {
                if user.kind() == LLVMValueKind::LLVMBlockAddressValueKind {
                    labels.note(function, user);
                }
            }
        }
    }
    for (table, functions) in &labels.holders {
        match only_reader(*table, functions) {
            Some(function) => drop(labels.tables.insert(*table, function)),
            None => labels.kept.extend(functions),
        }
    }
    // A function has its tables where it is.
    let kept = &labels.kept;
    labels.tables.retain(|_, function| !kept.contains(function));
    labels
}

impl<'m> Labels<'m> {
    /// Notes where a label of a function's is used.
    fn note(&mut self, function: Value<'m>, label: Value<'m>) {
        let mut seen = HashSet::from([label]);
        let mut constants = vec![label];
        while let Some(constant) = constants.pop() {
            for user in constant.users() {
                if user.is_global_variable() {
                    self.holders.entry(user).or_default().insert(function);
                } else if !user.is_instruction() {
                    if !is_dead(user) && seen.insert(user) {
                        constants.push(user);
                    }
                } else if user.parent() != Some(function) {
                    // Both must be in one module, and stay: nobody knows which is the other's.
                    self.kept.insert(function);
                    self.kept.extend(user.parent());
                }
            }
        }
    }
}

/// The one function whose labels stand in a table, if nobody else sees the table.
fn only_reader<'m>(table: Value<'m>, functions: &BTreeSet<Value<'m>>) -> Option<Value<'m>> {
    let function = functions.first().filter(|_| functions.len() == 1)?;
    let unseen = table.is_constant() || table.is_local();
    let readers = solely_read(table).filter(|_| unseen)?;
    let alone = readers.iter().all(|reader| reader == function);
    alone.then_some(*function)
}
