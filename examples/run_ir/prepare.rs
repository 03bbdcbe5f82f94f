//! From the file to the pieces of the program, before anything runs.

use crate::load;
use crate::normalise;
use crate::options::Options;
use crate::program::{self, Program};
use crate::watch::Watch;
use crate::{refuse, shared, symbols};

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Stop {
    /// The command or the file is wrong: a message.
    Mistake(String),
    /// The program is valid, and cannot run here: the reasons.
    Refused(Vec<String>),
}

/// Reads a program, and takes it apart. If LLVM crashes on it, the process ends with a message.
pub fn prepare(options: &Options) -> Result<Program, Stop> {
    for library in &options.libraries {
        let name = library.display();
        let wrong = |reason| Stop::Mistake(format!("--load {name}: {reason}"));
        symbols::load(library).map_err(wrong)?;
    }
    let _watch = Watch::start();
    let module = load::load(&options.file, options.debug_info).map_err(Stop::Mistake)?;
    let mut reasons: Vec<_> = match refuse::check(&module) {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal.lines().collect(),
    };
    if options.threads > 1 {
        reasons.extend(shared::between_instances(&module));
    }
    if !reasons.is_empty() {
        return Err(Stop::Refused(reasons));
    }
    load::fit_to_host(&module)
        .and_then(|()| normalise::normalise(&module, options.opt > 0))
        // SAFETY: `load` made a context for this module alone.
        .and_then(|apart| unsafe { program::take_apart(module, apart) })
        .map_err(Stop::Mistake)
}
