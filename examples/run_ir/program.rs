//! Takes a program apart: what lives as long as it runs, and what each function may keep for itself.

use crate::ir::{self, Module, Value};
use crate::labels;
use crate::large::{self, Large};
use crate::moving::take_out;
use crate::normalise::Apart;
use crate::reading::solely_read;
use crate::split::{self, Bitcode, Pieces};
use crate::thread_locals;
use inkwell::AddressSpace;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::{LLVMLinkage, LLVMOpcode, LLVMTypeKind};
use std::collections::BTreeSet;

/// The function of the globals' piece: it returns the table of their addresses.
pub const GLOBALS: &str = "run_ir.globals";

/// A constant read by several functions is copied into each up to this size; a larger one stays one.
const SHARED_BYTES: u64 = 1 << 10;

/// A constant read by one function goes with it up to this size: compiling it again must stay cheap.
const OWN_BYTES: u64 = 64 << 10;

/// A program in pieces, each ready to be compiled by itself.
pub struct Program {
    /// The functions that are methods of their own.
    pub methods: Vec<String>,
    /// Functions whose labels stand in the program's data: their code stands with the globals, and stays.
    pub kept: Vec<String>,
    /// Functions with inline assembly, of which nobody knows yet whether it can be assembled.
    pub assembly: Vec<String>,
    /// What the table of addresses holds, in its order: global variables, then the kept functions.
    pub table: Vec<String>,
    /// Large variables, which are not among these.
    pub large: Vec<Large>,
    /// The globals, with the kept functions and [`GLOBALS`].
    pub globals: Bitcode,
    /// The functions, cut out when asked for.
    pub pieces: Pieces,
    /// Whether `main` returns its exit code; otherwise that is 0.
    pub main_returns: bool,
    /// What the host sees to.
    pub apart: Apart,
}

/// What becomes of the program's globals.
struct Fates {
    /// Go with the functions that read them.
    local: BTreeSet<String>,
    /// Live as long as the program.
    lasting: BTreeSet<String>,
    /// Functions whose code does.
    kept: BTreeSet<String>,
}

/// Takes a normalised program apart.
///
/// # Safety
/// The module is alone in its context, and whoever made it does not use the context any more.
pub unsafe fn take_apart(module: Module<'static>, apart: Apart) -> Result<Program, String> {
    let mut fates = decide(&module);
    let main_returns = main_returns(&module);
    for name in &fates.local {
        if let Some(global) = ir::global(&module, name) {
            // SAFETY: a global variable. That it is never written was found out, not declared.
            unsafe { LLVMSetGlobalConstant(global.raw(), 1) };
            global.set_linkage(LLVMLinkage::LLVMPrivateLinkage);
        }
    }
    let methods: Vec<_> = ir::functions(&module)
        .into_iter()
        .filter(|function| !function.is_declaration())
        .map(Value::name)
        .filter(|name| !fates.kept.contains(name))
        .collect();
    let assembly = with_assembly(&module);
    let take_out = |name: &String| large::take_out(&module, ir::global(&module, name)?);
    let large: Vec<_> = fates.lasting.iter().filter_map(take_out).collect();
    for Large { name, .. } in &large {
        fates.lasting.remove(name);
    }
    let lasting: Vec<_> = fates.lasting.iter().chain(&fates.kept).cloned().collect();
    // What LLVM writes for a damaged program it may not be able to read.
    split::checked_bitcode(&module)?;
    let globals = globals_piece(&module, &fates, &lasting)?;
    Ok(Program {
        // SAFETY: by contract this was the only module of its context.
        pieces: unsafe { Pieces::new(module) },
        globals,
        kept: fates.kept.into_iter().collect(),
        assembly,
        table: lasting,
        large,
        methods,
        main_returns,
        apart,
    })
}

fn main_returns(module: &Module<'_>) -> bool {
    ir::function(module, "main").is_some_and(|main| {
        // SAFETY: the type of a function is a function type.
        unsafe {
            LLVMGetTypeKind(LLVMGetReturnType(main.value_type())) != LLVMTypeKind::LLVMVoidTypeKind
        }
    })
}

fn with_assembly(module: &Module<'_>) -> Vec<String> {
    let functions = ir::functions(module).into_iter();
    let with = functions.filter(|function| function.instructions().any(Value::is_assembly));
    with.map(Value::name).collect()
}

fn decide(module: &Module<'_>) -> Fates {
    let labels = labels::find(module);
    let (mut local, mut lasting) = (BTreeSet::new(), BTreeSet::new());
    for global in ir::globals(module)
        .into_iter()
        .filter(|global| !global.is_declaration())
    {
        if thread_locals::is_initial(&global.name()) {
            lasting.insert(global.name());
            continue;
        }
        let goes_along = match labels.holders.contains_key(&global) {
            true => labels.tables.contains_key(&global),
            false => is_cheap_to_copy(module, global),
        };
        if goes_along { &mut local } else { &mut lasting }.insert(global.name());
    }
    let kept = labels.kept.into_iter().map(Value::name).collect();
    Fates {
        local,
        lasting,
        kept,
    }
}

fn is_cheap_to_copy(module: &Module<'_>, global: Value<'_>) -> bool {
    if !global.is_constant() && !global.is_local() {
        return false;
    }
    // The distance between two globals is known only where they stand.
    if global.initialiser().is_some_and(has_difference) {
        return false;
    }
    let size = ir::size_of(module, global);
    size <= OWN_BYTES
        && solely_read(global).is_some_and(|readers| readers.len() <= 1 || size <= SHARED_BYTES)
}

fn has_difference(constant: Value<'_>) -> bool {
    constant.opcode() == Some(LLVMOpcode::LLVMSub)
        || !constant.is_global()
            && (0..constant.operand_count())
                .filter_map(|index| constant.operand(index))
                .any(has_difference)
}

/// The piece that lives as long as the program. All in it is internal, and found by the table.
///
/// That the table holds their addresses also tells the optimiser that others read and write them.
fn globals_piece(module: &Module<'_>, fates: &Fates, table: &[String]) -> Result<Bitcode, String> {
    let variables: Vec<_> = fates
        .lasting
        .iter()
        .filter_map(|name| ir::global(module, name))
        .collect();
    let kept: Vec<_> = fates
        .kept
        .iter()
        .filter_map(|name| ir::function(module, name))
        .collect();
    for global in variables.iter().chain(&kept) {
        global.set_linkage(LLVMLinkage::LLVMInternalLinkage);
    }
    let piece = take_out(module, &kept, &variables)?;
    add_table(&piece, table)?;
    split::checked_bitcode(&piece)
}

fn add_table(module: &Module<'_>, names: &[String]) -> Result<(), String> {
    let context = module.get_context();
    let pointer = context.ptr_type(AddressSpace::default());
    let addresses: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let function = module.get_function(name).map(|f| f.as_global_value());
            function
                .or_else(|| module.get_global(name))
                .map(|global| global.as_pointer_value())
        })
        .collect();
    if addresses.len() != names.len() {
        return Err("a global got lost".into());
    }
    // A null at the end: the table of a program without globals is not nothing.
    let addresses: Vec<_> = addresses
        .into_iter()
        .chain([pointer.const_null()])
        .collect();
    let table = module.add_global(
        pointer.array_type(addresses.len() as u32),
        None,
        "run_ir.table",
    );
    table.set_initializer(&pointer.const_array(&addresses));
    table.set_linkage(inkwell::module::Linkage::Private);
    table.set_constant(true);
    let function = module.add_function(GLOBALS, pointer.fn_type(&[], false), None);
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(function, ""));
    let address = table.as_pointer_value();
    builder
        .build_return(Some(&address))
        .map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::normalise;
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;

    fn parse<'ctx>(context: &'ctx Context, text: &[u8]) -> Module<'ctx> {
        let buffer = MemoryBuffer::create_from_memory_range_copy(text, "test");
        context
            .create_module_from_ir(buffer)
            .map_err(|error| error.to_string())
            .unwrap()
    }

    fn apart(text: &str) -> Program {
        let context = Box::leak(Box::new(Context::create()));
        let module = parse(context, text.as_bytes());
        crate::load::fit_to_host(&module).unwrap();
        let apart = normalise(&module, true).unwrap();
        // SAFETY: a context of its own, which nobody knows any more.
        unsafe { take_apart(module, apart) }.unwrap()
    }

    /// The text of a piece, which is a module of its own.
    fn piece(program: &mut Program, name: &str) -> String {
        let piece = program.pieces.get(name).unwrap();
        let context = Context::create();
        let module = parse(&context, &piece.bitcode);
        module.verify().unwrap();
        module.print_to_string().to_string()
    }

    fn globals(program: &Program) -> String {
        let context = Context::create();
        let module = parse(&context, &program.globals);
        module.verify().unwrap();
        module.print_to_string().to_string()
    }

    const DATA: &str = r#"
        @read = private constant [4 x i32] [i32 1, i32 2, i32 3, i32 4]
        @never_written = internal global [4 x i32] [i32 5, i32 6, i32 7, i32 8]
        @written = internal global i32 9
        @text = private unnamed_addr constant [3 x i8] c"ab\00"
        @link = global ptr @written
        @same = internal alias i32, ptr @helper_alias_target
        @helper_alias_target = internal global i32 3
        @common = common global i32 0
        define ptr @leaks() { ret ptr @text }
        define internal fastcc i32 @helper(i64 %i) {
          %p = getelementptr [4 x i32], ptr @read, i64 0, i64 %i
          %q = getelementptr [4 x i32], ptr @never_written, i64 0, i64 %i
          %a = load i32, ptr %p
          %b = load i32, ptr %q
          store i32 %b, ptr @written
          %c = load i32, ptr @same
          store i32 %c, ptr @common
          ret i32 %a
        }
        define i32 @main() {
          %a = call fastcc i32 @helper(i64 1)
          %p = load ptr, ptr @link
          store i32 %a, ptr %p
          ret i32 %a
        }
    "#;

    #[test]
    fn constants_that_are_read_go_with_their_functions() {
        let mut program = apart(DATA);
        assert_eq!(program.table, ["common", "link", "text", "written"]);
        let helper = piece(&mut program, "helper");
        assert!(
            helper.contains("@read = private constant [4 x i32]"),
            "{helper}"
        );
        assert!(
            helper.contains("@never_written = private constant"),
            "{helper}"
        );
        assert!(
            helper.contains("@written = external global i32"),
            "{helper}"
        );
        assert!(
            helper.contains("define") && !helper.contains("@main"),
            "{helper}"
        );
        assert!(piece(&mut program, "leaks").contains("@text = external constant"));
        let main = piece(&mut program, "main");
        assert!(
            main.contains("declare dso_local i32 @helper(i64)")
                || main.contains("declare i32 @helper(i64)"),
            "{main}"
        );
        assert!(
            !main.contains("@read") && !main.contains("fastcc"),
            "{main}"
        );
    }

    #[test]
    fn what_is_written_or_pointed_to_lives_as_long_as_the_program() {
        let program = apart(DATA);
        let globals = globals(&program);
        for line in [
            "@written = internal global i32 9",
            "@link = internal global ptr @written",
            "@common = internal global i32 0",
            "@text = internal unnamed_addr constant [3 x i8] c\"ab\\00\"",
        ] {
            assert!(globals.contains(line), "{line} is missing in\n{globals}");
        }
        assert!(
            !globals.contains("@read") && !globals.contains("@main"),
            "{globals}"
        );
        assert!(program.kept.is_empty());
    }

    fn labels(more: &str) -> Program {
        apart(&format!(
            "@table = internal global [2 x ptr] [ptr blockaddress(@jumps, %a), ptr blockaddress(@jumps, %b)]
             @place = global ptr null
             define i32 @jumps(i64 %i) {{
               %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
               %l = load ptr, ptr %p
               {more}
               indirectbr ptr %l, [label %a, label %b]
             a: ret i32 1
             b: ret i32 2
             }}
             define i32 @main() {{
               %r = call i32 @jumps(i64 1)
               ret i32 %r
             }}"
        ))
    }

    #[test]
    fn labels_within_an_activation_go_with_their_function() {
        let mut program =
            labels("%v = alloca ptr\nstore ptr %l, ptr %v\n%again = load ptr, ptr %v");
        assert!(program.kept.is_empty());
        assert!(!program.table.contains(&"table".into()));
        let jumps = piece(&mut program, "jumps");
        assert!(jumps.contains("blockaddress(@jumps, %a)"), "{jumps}");
        let main = piece(&mut program, "main");
        assert!(
            !main.contains("@table") && !main.contains("indirectbr"),
            "{main}"
        );
    }

    /// What becomes of the labels that a function reads is for the cache to find out.
    #[test]
    fn labels_that_get_about_leave_the_table_with_its_function() {
        for more in [
            "store ptr %l, ptr @place",
            "%v = alloca ptr\nstore ptr %l, ptr %v\nstore ptr %v, ptr @place",
            "call i32 @jumps(i64 ptrtoint (ptr blockaddress(@jumps, %a) to i64))",
        ] {
            let mut program = labels(more);
            assert!(program.kept.is_empty(), "{more}");
            let jumps = piece(&mut program, "jumps");
            assert!(jumps.contains("@table = private constant"), "{jumps}");
        }
    }

    #[test]
    fn tables_that_get_about_keep_their_function() {
        for more in [
            "store ptr blockaddress(@jumps, %b), ptr @table",
            "store ptr @table, ptr @place",
        ] {
            let mut program = labels(more);
            assert_eq!(program.kept, ["jumps"], "{more}");
            assert!(
                program.table.contains(&"table".into())
                    && !program.methods.contains(&"jumps".into())
            );
            let globals = globals(&program);
            assert!(globals.contains("define internal i32 @jumps"), "{globals}");
            let main = piece(&mut program, "main");
            assert!(main.contains("declare i32 @jumps(i64)"), "{main}");
        }
    }

    #[test]
    fn functions_that_share_labels_stand_with_the_globals() {
        let program = apart(
            "define i32 @jumps(ptr %l) {
               indirectbr ptr %l, [label %a]
             a: ret i32 1
             }
             define i32 @main() {
               %r = call i32 @jumps(ptr blockaddress(@jumps, %a))
               ret i32 %r
             }",
        );
        assert_eq!(program.kept, ["jumps", "main"]);
    }

    /// More functions than one cut divides into parts, at several levels.
    #[test]
    fn every_function_is_cut_out_once() {
        let count = 700;
        let mut text = String::from("define i32 @main() {\n ret i32 0\n}\n");
        for index in 0..count {
            text += &format!(
                "@t{index} = private constant [2 x ptr] [ptr blockaddress(@f{index}, %a), ptr null]\n"
            );
            text += &format!(
                "define i32 @f{index}() {{\n %r = call i32 @f{}()\n %l = load ptr, ptr @t{index}\n indirectbr ptr %l, [label %a]\na: ret i32 {index}\n}}\n",
                (index + 1) % count
            );
        }
        let mut program = apart(&text);
        assert_eq!(program.methods.len(), count + 1);
        for index in [0, 1, 43, 44, 350, 698, 699, 43] {
            let piece = piece(&mut program, &format!("f{index}"));
            assert_eq!(piece.matches("\ndefine ").count(), 1, "{piece}");
            assert!(piece.contains(&format!("ret i32 {index}\n")), "{piece}");
            assert_eq!(piece.matches("@t").count(), 2, "{piece}");
        }
    }
}
