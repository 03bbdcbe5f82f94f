//! Labels as values: which functions' labels may outlive an activation.
//!
//! The address of a label (`&&label`) is an address in its function's code, and dies with that. As long as an
//! activation uses labels that it read itself, to jump by `indirectbr`, this is no matter: code with a frame on the
//! stack stays. But a label that is stored where a later activation finds it (a table that is written, threaded
//! code, a resume label) must find the very same code again. Such a function is *kept*: its code, and the tables
//! that hold its labels, live as long as the program.

use crate::ir::{self, Module, Value};
use crate::reading::{copies, is_dead, solely_read};
use inkwell::llvm_sys::{LLVMOpcode, LLVMValueKind};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The tables of labels, and the functions to keep.
#[derive(Default)]
pub struct Labels<'m> {
    /// The tables that go with their function.
    pub tables: HashMap<Value<'m>, Value<'m>>,
    /// All globals that hold labels, those of kept functions too.
    pub holders: HashSet<Value<'m>>,
    /// The functions whose code must never move.
    pub kept: BTreeSet<Value<'m>>,
}

/// Follows all labels of the program.
pub fn follow<'m>(module: &'m Module<'_>) -> Labels<'m> {
    let mut labels = Labels::default();
    for function in ir::functions(module) {
        let mut flow = Flow::new(function);
        for block in function.blocks() {
            for user in block.users() {
                if user.kind() == LLVMValueKind::LLVMBlockAddressValueKind {
                    flow.add(user);
                }
            }
        }
        flow.run();
        labels.holders.extend(flow.tables.iter());
        if flow.escapes {
            labels.kept.insert(function);
            labels.kept.extend(flow.others);
        } else {
            labels
                .tables
                .extend(flow.tables.into_iter().map(|table| (table, function)));
        }
    }
    // A table may hold labels of several functions; if one is kept, so is the table.
    let kept = &labels.kept;
    labels.tables.retain(|_, function| !kept.contains(function));
    labels
}

/// The way of one function's labels.
struct Flow<'m> {
    function: Value<'m>,
    seen: HashSet<Value<'m>>,
    values: Vec<Value<'m>>,
    tables: Vec<Value<'m>>,
    /// Functions in which labels of this one turn up.
    others: BTreeSet<Value<'m>>,
    escapes: bool,
}

impl<'m> Flow<'m> {
    fn new(function: Value<'m>) -> Self {
        Flow {
            function,
            seen: HashSet::new(),
            values: Vec::new(),
            tables: Vec::new(),
            others: BTreeSet::new(),
            escapes: false,
        }
    }

    fn add(&mut self, value: Value<'m>) {
        if self.seen.insert(value) {
            self.values.push(value);
        }
    }

    /// Goes on after an escape: all tables, and all functions that name the labels, must be known.
    fn run(&mut self) {
        while let Some(value) = self.values.pop() {
            for user in value.users() {
                self.step(value, user);
            }
        }
    }

    fn step(&mut self, value: Value<'m>, user: Value<'m>) {
        if user.is_global_variable() {
            self.table(user);
        } else if user.is_instruction() {
            if user.parent() != Some(self.function) {
                self.others.extend(user.parent());
                self.escapes = true;
            }
            self.instruction(value, user);
        } else if !is_dead(user) {
            // An expression or aggregate of constants, with the label or a difference of two in it.
            self.add(user);
        }
    }

    fn instruction(&mut self, value: Value<'m>, user: Value<'m>) {
        use LLVMOpcode::*;
        match user.opcode() {
            Some(
                LLVMPHI | LLVMSelect | LLVMGetElementPtr | LLVMBitCast | LLVMPtrToInt
                | LLVMIntToPtr | LLVMTrunc | LLVMSExt | LLVMZExt | LLVMAdd | LLVMSub | LLVMFreeze
                | LLVMInsertElement | LLVMExtractElement | LLVMInsertValue | LLVMExtractValue
                | LLVMShuffleVector,
            ) => self.add(user),
            Some(LLVMIndirectBr | LLVMICmp) => {}
            Some(LLVMStore) if user.operand_is(0, value) => match user.operand(1) {
                Some(place) => self.local(place),
                None => self.escapes = true,
            },
            _ => self.escapes = true,
        }
    }

    /// A table of labels: harmless if solely read, by this function, and what is read goes to jumps.
    fn table(&mut self, table: Value<'m>) {
        if self.tables.contains(&table) {
            return;
        }
        self.tables.push(table);
        let unseen = table.is_constant() || table.is_local();
        let reading = solely_read(table).filter(|_| unseen);
        let Some(reading) =
            reading.filter(|reading| reading.functions.iter().all(|f| *f == self.function))
        else {
            self.escapes = true;
            return;
        };
        for load in reading.loads {
            self.add(load);
        }
        for copy in reading.copies {
            match copy.operand(0) {
                Some(place) => self.local(place),
                None => self.escapes = true,
            }
        }
    }

    /// A label comes to lie at `place`: harmless in a local variable whose address stays in the function.
    fn local(&mut self, place: Value<'m>) {
        let variable = base(place);
        if variable.opcode() != Some(LLVMOpcode::LLVMAlloca) {
            self.escapes = true;
        } else if self.seen.insert(variable) {
            match loads_of(variable) {
                Some(loads) => loads.into_iter().for_each(|load| self.add(load)),
                None => self.escapes = true,
            }
        }
    }
}

/// What an address was derived from.
fn base(mut address: Value<'_>) -> Value<'_> {
    while let Some(LLVMOpcode::LLVMGetElementPtr | LLVMOpcode::LLVMBitCast) = address.opcode() {
        let Some(from) = address.operand(0) else {
            break;
        };
        address = from;
    }
    address
}

/// The loads from a local variable; `None` if its address goes anywhere else.
fn loads_of(variable: Value<'_>) -> Option<Vec<Value<'_>>> {
    use LLVMOpcode::*;
    let mut loads = Vec::new();
    let mut seen = HashSet::from([variable]);
    let mut addresses = vec![variable];
    while let Some(address) = addresses.pop() {
        for user in address.users() {
            match user.opcode() {
                Some(LLVMGetElementPtr | LLVMBitCast | LLVMPHI | LLVMSelect) => {
                    if seen.insert(user) {
                        addresses.push(user);
                    }
                }
                Some(LLVMLoad) => loads.push(user),
                Some(LLVMStore) if !user.operand_is(0, address) => {}
                Some(LLVMCall) if keeps_to_itself(user, address) => {}
                _ => return None,
            }
        }
    }
    Some(loads)
}

/// Whether a call only fills a local variable, or says how long it lives.
fn keeps_to_itself<'m>(call: Value<'m>, address: Value<'m>) -> bool {
    let name = call.called_name();
    name.starts_with("llvm.lifetime.")
        || name.starts_with("llvm.memset.")
        || copies(call) && call.operand_is(0, address) && !call.operand_is(1, address)
}
