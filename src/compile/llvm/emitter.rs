//! Code generators other than LLVM's.

use inkwell::module::Module;

/// A generator of code that stands in for LLVM's in a [tier](crate::Tier::emitter): a faster one that goes over the
/// code once, say.
///
/// It is called on compile workers, from several at once if there are several, with a module that its tier's passes
/// have seen. A panic costs the methods their compilation, and the context.
pub trait Emitter: Send + Sync + 'static {
    /// Makes a relocatable ELF object for this machine of a module; or refuses, and leaves the module as it is.
    ///
    /// The object must define every function that the module defines with external linkage, and keep what
    /// the module says of others:
    ///
    /// - Functions are position-independent; what is declared as hidden is within 2 GiB, everything else is reached
    ///   through the GOT or a stub.
    /// - A function whose calls may unwind has a record in `.eh_frame`.
    /// - Atomic loads are done, each where it stands.
    /// - A method can be moved without being compiled again if its function, and what only it refers to, are in
    ///   sections of their own: the module says so by comdats.
    fn emit(&self, module: &Module<'_>) -> Result<Vec<u8>, Refused>;
}

/// What an [`Emitter`] has no code for.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// The functions, by the names that they have in the module. Those of a method may be named by its own function
    /// or any of its parts. None: it is not known which, and the batch is tried in halves.
    pub functions: Vec<String>,
}
