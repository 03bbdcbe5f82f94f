//! The programs of the corpus (`tests/programs/bitcode`) as objects: of each code model, in one section or
//! a section for each function.

use std::fs;
use std::path::{Path, PathBuf};

use inkwell::OptimizationLevel::{Default as O2, None as O0};
use inkwell::module::Linkage;
use inkwell::targets::{CodeModel, RelocMode};

use super::models::MODELS;
use super::{Needs, compile_module};
use crate::link::Object;

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/bitcode");
    let entries = fs::read_dir(folder).expect("the corpus");
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "bc"));
    all.sort();
    all
}

/// A program by each of the code models: the even ones with a section for each function.
fn compile(path: &Path, number: usize, models: usize) -> Vec<Vec<u8>> {
    let bitcode = fs::read(path).expect("a program");
    let (level, mode) = match number % 4 {
        0 | 1 => (O0, RelocMode::PIC),
        2 => (O2, RelocMode::PIC),
        _ => (O2, RelocMode::Static),
    };
    let model = |turn: usize| {
        let model = MODELS[(number + turn) % MODELS.len()];
        compile_module(&bitcode, level, mode, model, |module| {
            let functions = module
                .get_functions()
                .filter(|f| f.count_basic_blocks() > 0);
            for function in functions.filter(|_| number.is_multiple_of(2)) {
                let name = function.get_name().to_string_lossy();
                function.set_section(Some(&format!(".text.{name}")));
            }
        })
    };
    (0..models).map(model).collect()
}

/// All programs, each by all code models.
pub(super) fn objects() -> Vec<Vec<u8>> {
    let numbered = programs().into_iter().enumerate();
    numbered
        .flat_map(|(number, path)| compile(&path, number, MODELS.len()))
        .collect()
}

/// Every seventh program, each by one code model or another.
pub(super) fn some_objects() -> Vec<Vec<u8>> {
    let numbered = programs().into_iter().enumerate().step_by(7);
    numbered
        .flat_map(|(number, path)| compile(&path, number, 1))
        .collect()
}

/// Every so many of the programs as inkpot compiles methods: each function apart, its calls of others by
/// symbols that are not the object's.
pub(super) fn methods(step: usize) -> Vec<Vec<u8>> {
    let numbered = programs().into_iter().enumerate().step_by(step);
    let compile = |(number, path): (usize, PathBuf)| {
        let bitcode = fs::read(path).expect("a program");
        let level = if number.is_multiple_of(2) { O0 } else { O2 };
        compile_module(
            &bitcode,
            level,
            RelocMode::PIC,
            CodeModel::Small,
            |module| {
                for function in module
                    .get_functions()
                    .filter(|f| f.count_basic_blocks() > 0)
                {
                    let name = format!("elsewhere.{}", function.get_name().to_string_lossy());
                    let elsewhere = module.add_function(&name, function.get_type(), None);
                    function.replace_all_uses_with(elsewhere);
                    function.set_linkage(Linkage::External);
                }
                crate::compile::llvm::separate::apart(module);
            },
        )
    };
    numbered.map(compile).collect()
}

/// As they are, they parse, but for what the linker refuses by name: thread-locals, say.
#[test]
fn whole_they_parse() {
    let objects = some_objects();
    let empty = |needs: &Needs| needs.text.size == 0;
    let parsed: Vec<_> = objects
        .iter()
        .filter_map(|o| Object::parse(o).ok())
        .collect();
    assert!(parsed.iter().all(|object| !empty(object.needs())));
    assert!(
        parsed.len() * 10 > objects.len() * 9,
        "{} of {}",
        parsed.len(),
        objects.len()
    );
    assert!(objects.len() > 10);
}
