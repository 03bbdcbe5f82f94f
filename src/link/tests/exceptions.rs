//! C++ exceptions through linked code: personalities behind references, exception
//! tables, type infos of others and of its own, in every code model.

use std::cell::Cell;

use inkwell::OptimizationLevel::{Aggressive, None as O0};
use inkwell::targets::{CodeModel, RelocMode};

use super::real::{address, function, load, load_into};
use super::{Executable, LinkError, NEAR, compile_for, models, moving, try_link_at, unwinding};
use crate::link::sections::Section;
use crate::link::{Linked, Object, unwind};

#[path = "../../../tests/support/throwing.rs"]
mod throwing;

thread_local! {
    static NOTED: Cell<i64> = const { Cell::new(0) };
}

extern "C" fn note(n: i64) {
    NOTED.set(NOTED.get() + n);
}

/// Each text in an object of its own, which knows those before it.
pub(super) fn objects(
    model: CodeModel,
    mode: RelocMode,
    level: super::OptimizationLevel,
) -> [Vec<u8>; 4] {
    texts().map(|(_, text)| compile_for(&text, level, mode, model))
}

/// Names and texts; each calls the one before it.
pub(super) fn texts() -> [(&'static str, String); 4] {
    throwing::texts().map(|(name, text)| (name, text.replace("@self(", &format!("@{name}("))))
}

fn run(batches: &[Vec<u8>], imports: &[(&'static str, *const ())]) {
    let mut known: Vec<(&str, u64)> = imports.iter().map(|(n, a)| (*n, *a as u64)).collect();
    known.push(("note", note as *const () as u64));
    let mut loaded: Vec<(Linked, Executable)> = Vec::new();
    let mut tables = Vec::new();
    for (batch, (name, _)) in batches.iter().zip(throwing::texts()) {
        let (linked, memory) = load(batch, &known);
        assert_eq!(linked.failed, []);
        known.push((name, address(&linked, name)));
        // SAFETY: linked, and deregistered before the memory goes.
        tables.push(unsafe { unwind::register(linked.unwind.expect("a table")) });
        loaded.push((linked, memory));
    }
    let (linked, _) = &loaded[3];
    let catches = function!(linked, "catches", fn(i64) -> i64);
    for n in -3..3 {
        NOTED.set(0);
        // SAFETY: the type is right, and it lets nothing out.
        let result = unsafe { catches(n) };
        assert_eq!((result, NOTED.get()), throwing::expected(n));
    }
    for mut table in tables {
        // SAFETY: registered above; no thread is in its code.
        unsafe { table.deregister() };
    }
}

#[test]
fn thrown_and_caught_in_every_model() {
    let Some(imports) = throwing::imports() else {
        return;
    };
    let _tables = unwinding::tables();
    for model in models::MODELS {
        for level in [O0, Aggressive] {
            run(&objects(model, RelocMode::PIC, level), &imports);
        }
    }
    // Without PIC only the large one reaches a library.
    let large = objects(CodeModel::Large, RelocMode::Static, Aggressive);
    run(&large, &imports);
}

/// From where they are moved to, twice, and with the places where they were gone. Who catches a type of
/// the object's own stays.
#[test]
fn thrown_and_caught_by_moved_functions() {
    let Some(imports) = throwing::imports() else {
        return;
    };
    let _tables = unwinding::tables();
    for level in [O0, Aggressive] {
        let mut known: Vec<(&str, u64)> = imports.iter().map(|(n, a)| (*n, *a as u64)).collect();
        known.push(("note", note as *const () as u64));
        let mut moved: Vec<(Linked, Executable)> = Vec::new();
        let mut tables = Vec::new();
        for (name, text) in texts() {
            if name == "catches" {
                let (linked, _) = load(&moving::separable(&text, level), &known);
                assert_eq!(linked.functions[0].recipe, None);
            }
            let one_type = text.replace("catch ptr @_ZTI4Mine", "").replace(
                "call i32 @llvm.eh.typeid.for.p0(ptr @_ZTI4Mine)",
                "add i32 0, 99",
            );
            let (linked, memory) = load(&moving::separable(&one_type, level), &known);
            let (linked, memory) = moving::moved(&linked, memory, &[name]);
            let (linked, memory) = moving::moved(&linked, memory, &[name]);
            known.push((name, address(&linked, name)));
            // SAFETY: linked, and deregistered before the memory goes.
            tables.push(unsafe { unwind::register(linked.unwind.expect("a table")) });
            moved.push((linked, memory));
        }
        let (linked, _) = &moved[3];
        let catches = function!(linked, "catches", fn(i64) -> i64);
        for n in [-3, -2, -1, 1, 2] {
            NOTED.set(0);
            // SAFETY: the type is right, and it lets nothing out.
            let result = unsafe { catches(n) };
            assert_eq!((result, NOTED.get()), throwing::expected(n));
        }
        for mut table in tables {
            // SAFETY: registered above; no thread is in its code.
            unsafe { table.deregister() };
        }
    }
}

/// Without a class of its own.
fn one_type(text: &str) -> String {
    let own = "call i32 @llvm.eh.typeid.for.p0(ptr @_ZTI4Mine)";
    let text = text.replace("catch ptr @_ZTI4Mine", "");
    text.replace(own, "add i32 0, 99")
}

/// What an exception table refers to directly may be written by anyone.
#[test]
fn only_slots_of_types_are_taken_for_constants() {
    let [.., (_, catches)] = texts();
    let sound = moving::separable(&one_type(&catches), Aggressive);
    let names = throwing::IMPORTS.into_iter().chain(["rethrows", "note"]);
    let known: Vec<_> = names.map(|name| (name, NEAR.text - 0x1000)).collect();
    let has_recipe = |object: &[u8]| {
        let (linked, _) = try_link_at(object, NEAR, &known).expect("links");
        linked.functions[0].recipe.is_some()
    };
    assert!(has_recipe(&sound));
    let object = Object::parse(&sound).expect("parses");
    let table = |section: &&Section<'_>| section.name.starts_with(".gcc_except_table");
    let table = object.sections.iter().find(table).expect("a table").bytes;
    let at = table.as_ptr() as usize - sound.as_ptr() as usize;
    assert_eq!(sound[at..at + 2], [0xFF, 0x9B]);
    for (byte, value) in [(0, 0x1B), (1, 0x1B), (1, 0x00), (1, 0xFF)] {
        let mut changed = sound.clone();
        changed[at + byte] = value;
        assert!(!has_recipe(&changed), "{value:#x} at {byte}");
    }
}

/// Batches of different models throw through each other.
#[test]
fn models_mix() {
    let Some(imports) = throwing::imports() else {
        return;
    };
    let _tables = unwinding::tables();
    let [throws, ..] = objects(CodeModel::Large, RelocMode::PIC, O0);
    let [_, cleans, ..] = objects(CodeModel::Small, RelocMode::PIC, Aggressive);
    let [_, _, rethrows, _] = objects(CodeModel::Large, RelocMode::Static, Aggressive);
    let [_, _, _, catches] = objects(CodeModel::Medium, RelocMode::PIC, O0);
    run(&[throws, cleans, rethrows, catches], &imports);
}

/// Personalities and type infos are referred to through data, which is nobody's in particular: the
/// object fails, and the caller takes the batch apart.
#[test]
fn what_nobody_knows_is_named() {
    for model in models::MODELS {
        let [.., catches] = objects(model, RelocMode::PIC, Aggressive);
        let known = |without: &str| -> Vec<(&str, u64)> {
            let names = throwing::IMPORTS.into_iter().chain(["rethrows"]);
            names
                .filter(|n| *n != without)
                .map(|n| (n, NEAR.text))
                .collect()
        };
        for name in ["__gxx_personality_v0", "_ZTIl"] {
            let result = try_link_at(&catches, NEAR, &known(name)).map(|(linked, _)| linked);
            let Err(LinkError::Unresolved { symbol, section }) = &result else {
                panic!("{result:?}");
            };
            assert_eq!(symbol, name);
            assert!(section.starts_with(".data"), "{section}");
        }
    }
}

/// Exceptions are no reason to be in low memory: the tables alone say 32 bits.
#[test]
fn tables_of_32_bits_are_linked_in_low_memory() {
    let [.., catches] = objects(CodeModel::Small, RelocMode::Static, Aggressive);
    let object = Object::parse(&catches).expect("parses");
    let memory = Executable::low(object.needs());
    let names = throwing::IMPORTS.into_iter().chain(["rethrows", "note"]);
    let known: Vec<_> = names.map(|name| (name, 0x1234_5678)).collect();
    let (linked, _memory) = load_into(&object, memory, &known);
    assert_eq!(linked.failed, []);
    assert!(linked.unwind.is_some());
}
