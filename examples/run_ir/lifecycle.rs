//! What runs before `main` and after it: the functions of `llvm.global_ctors` and `llvm.global_dtors`.

use crate::ir::{self, Module, Value};
use inkwell::llvm_sys::core::*;

/// The lists' names.
pub const LISTS: [&str; 2] = ["llvm.global_ctors", "llvm.global_dtors"];

/// The functions of both lists, in the order in which they run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    pub constructors: Vec<String>,
    pub destructors: Vec<String>,
}

/// The same, while the program may still be changed.
pub struct Listed<'m> {
    constructors: Vec<Value<'m>>,
    destructors: Vec<Value<'m>>,
}

impl<'m> Listed<'m> {
    /// Lets a function run before all others.
    pub fn begin_with(&mut self, function: Value<'m>) {
        self.constructors.insert(0, function);
    }

    /// Goes by names from now on.
    pub fn named(self) -> Lifecycle {
        let names = |functions: Vec<Value<'_>>| functions.into_iter().map(Value::name).collect();
        Lifecycle {
            constructors: names(self.constructors),
            destructors: names(self.destructors),
        }
    }
}

/// Takes both lists out of the module. What they name is called from outside now, so it is no longer unused.
pub fn take<'m>(module: &'m Module<'_>) -> Listed<'m> {
    let mut destructors = entries(module, LISTS[1]);
    // What was built first is taken down last.
    destructors.reverse();
    Listed {
        constructors: entries(module, LISTS[0]),
        destructors,
    }
}

/// The functions of a list: by ascending priority, and in their order where that is the same.
fn entries<'m>(module: &'m Module<'_>, name: &str) -> Vec<Value<'m>> {
    let Some(list) = ir::global(module, name) else {
        return Vec::new();
    };
    let mut entries: Vec<_> = prioritised(list).collect();
    entries.sort_by_key(|(priority, _)| *priority);
    // SAFETY: nothing refers to a list, and it is not asked again.
    unsafe { list.delete() };
    entries.into_iter().map(|(_, function)| function).collect()
}

/// The functions of a list, or what else is called there.
pub fn listed(list: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    prioritised(list).map(|(_, function)| function)
}

fn prioritised(list: Value<'_>) -> impl Iterator<Item = (u64, Value<'_>)> {
    let initialiser = list.initialiser();
    let count = initialiser.map_or(0, Value::operand_count);
    (0..count).filter_map(move |index| {
        // An entry is { priority, function, data }; a null function ended the list once.
        let entry = initialiser?.operand(index)?;
        let (priority, function) = (entry.operand(0)?, through_aliases(entry.operand(1)?));
        // SAFETY: by the verifier an integer.
        let priority = unsafe { LLVMConstIntGetZExtValue(priority.raw()) };
        function.is_global().then_some((priority, function))
    })
}

fn through_aliases(mut function: Value<'_>) -> Value<'_> {
    // SAFETY: any value may be asked what it is.
    while unsafe { !LLVMIsAGlobalAlias(function.raw()).is_null() } {
        let Some(aliasee) = function.operand(0) else {
            break;
        };
        function = aliasee;
    }
    function
}
