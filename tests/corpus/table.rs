//! What a program of the corpus is: its file, how it is built and run, and what it asks of `run_ir`.

use std::path::{Path, PathBuf};

/// What `run_ir` learns piece by piece. A program runs once all that it needs is off the list [`WAITING`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// `thread_local` and `_Thread_local` variables.
    ThreadLocals,
    /// C++ exceptions.
    Exceptions,
    /// `--load` and the libraries named with it.
    Load,
    /// `llvm.global_ctors` and `llvm.global_dtors`.
    Constructors,
    /// `pthread_create` and what is built on it.
    Threads,
    /// Signal handlers.
    Signals,
    /// Indirect functions.
    Ifuncs,
    /// Functions of libraries that the program replaces, seen by the libraries too (`operator new`).
    Replacements,
    /// A first thread that ends before the process, and is joined.
    JoinsMain,
    /// Hidden symbols of libgcc.
    CpuModel,
    /// Library calls that the code generator makes find the program's own functions.
    OwnMemcpy,
    /// libm's functions, not copies of them in the executable.
    Errno,
    /// Constants that are differences of addresses.
    Differences,
}

/// What `run_ir` cannot do yet. A program that needs one of these is only run natively.
pub const WAITING: &[Feature] = &[];

/// A program, with the usual answer to everything: see [`program`].
pub struct Program {
    /// Its name in `tests/programs`; the ending says the language.
    pub file: &'static str,
    /// What clang is told besides, natively and for bitcode.
    pub flags: &'static [&'static str],
    /// The libraries that `run_ir` is told to load.
    pub load: &'static [&'static str],
    /// `argv` from 1 on.
    pub arguments: &'static [&'static str],
    /// Standard input.
    pub input: &'static str,
    /// What `run_ir` must be able to do.
    pub needs: &'static [Feature],
    /// Words of the refusal, if it is to be refused.
    pub refused: &'static [&'static str],
    /// Whether its output depends on how clang optimises, natively too.
    pub by_level: bool,
}

/// A program without any peculiarities.
pub const fn program(file: &'static str) -> Program {
    Program {
        file,
        flags: &[],
        load: &[],
        arguments: &[],
        input: "",
        needs: &[],
        refused: &[],
        by_level: false,
    }
}

/// Says what differs from the usual.
impl Program {
    /// More for clang.
    pub const fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    /// `argv` from 1 on.
    pub const fn arguments(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    /// Standard input.
    pub const fn input(mut self, input: &'static str) -> Self {
        self.input = input;
        self
    }

    /// What `run_ir` must be able to do.
    pub const fn needs(mut self, needs: &'static [Feature]) -> Self {
        self.needs = needs;
        self
    }

    /// It needs the C++ library, and what else is listed.
    pub const fn library(mut self, needs: &'static [Feature]) -> Self {
        self.load = &["libstdc++.so.6"];
        self.needs = needs;
        self
    }

    /// What it prints depends on how clang optimises it.
    pub const fn by_level(mut self) -> Self {
        self.by_level = true;
        self
    }

    /// It is refused, with these words.
    pub const fn refused(mut self, words: &'static [&'static str]) -> Self {
        self.refused = words;
        self
    }
}

/// What follows from the table.
impl Program {
    /// Its source.
    pub fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/programs")
            .join(self.file)
    }

    /// Whether it is IR already.
    pub fn is_ir(&self) -> bool {
        self.file.ends_with(".ll")
    }

    /// Whether it is C++.
    pub fn is_cpp(&self) -> bool {
        self.file.ends_with(".cpp")
    }

    /// What it still waits for: what it needs, and `--load` if it needs a library.
    pub fn waits_for(&self) -> Vec<Feature> {
        let load = (!self.load.is_empty()).then_some(Feature::Load);
        self.needs
            .iter()
            .copied()
            .chain(load)
            .filter(|feature| WAITING.contains(feature))
            .collect()
    }
}
