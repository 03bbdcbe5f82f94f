//! C++'s replaceable operators, `new` and `delete`: a program that has its own gets them called by libraries too.
//!
//! Natively the dynamic linker sees to that, as it looks in the executable first. So this executable defines them all.
//! On a thread that runs the program they go on to the program's own, if it has any; everybody else, such as LLVM, and
//! a program without, gets the library's.

use crate::frontend::Key;
use crate::instance::{self, Instance};
use crate::process;
use inkpot::{Cache, Error};
use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Any of them: sizes, alignments and pointers go into the same registers, and those that are no arguments are passed
/// on as they are.
type Operator = unsafe extern "C-unwind" fn(usize, usize, usize) -> usize;

/// Defines the operators, and lists their names.
macro_rules! operators {
    ($($number:literal $symbol:ident)*) => {
        const NAMES: [&str; [$($number),*].len()] = [$(stringify!($symbol)),*];

        $(
            /// The operator of this name.
            ///
            /// # Safety
            /// As for the library's.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $symbol(a: usize, b: usize, c: usize) -> usize {
                const NAME: &CStr =
                    match CStr::from_bytes_with_nul(concat!(stringify!($symbol), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name with a NUL in it"),
                    };
                static LIBRARY: AtomicUsize = AtomicUsize::new(0);
                // SAFETY: the caller's promise; nothing in this frame needs dropping when one of them throws.
                unsafe { operator($number, &LIBRARY, NAME)(a, b, c) }
            }
        )*

        /// So that the linker leaves none out.
        #[used]
        static ALL: [Operator; NAMES.len()] = [$($symbol),*];
    };
}

operators! {
    0 _Znwm 1 _Znam
    2 _ZnwmRKSt9nothrow_t 3 _ZnamRKSt9nothrow_t
    4 _ZnwmSt11align_val_t 5 _ZnamSt11align_val_t
    6 _ZnwmSt11align_val_tRKSt9nothrow_t 7 _ZnamSt11align_val_tRKSt9nothrow_t
    8 _ZdlPv 9 _ZdaPv
    10 _ZdlPvm 11 _ZdaPvm
    12 _ZdlPvRKSt9nothrow_t 13 _ZdaPvRKSt9nothrow_t
    14 _ZdlPvSt11align_val_t 15 _ZdaPvSt11align_val_t
    16 _ZdlPvmSt11align_val_t 17 _ZdaPvmSt11align_val_t
    18 _ZdlPvSt11align_val_tRKSt9nothrow_t 19 _ZdaPvSt11align_val_tRKSt9nothrow_t
}

/// The addresses of the program's own operators, 0 for those that it has not, by instance. Empty for a program without.
static OWN: OnceLock<Vec<[usize; NAMES.len()]>> = OnceLock::new();

/// Finds the program's own operators, before it starts.
pub fn begin(instances: &[&'static Instance], cache: &Cache<Key>) -> Result<(), Error> {
    let mut own = Vec::new();
    for instance in instances {
        let mut addresses = [0; NAMES.len()];
        for (address, name) in addresses.iter_mut().zip(NAMES) {
            if let Some(key) = instance.source.key(instance.number, name) {
                // SAFETY: it is not called through this type.
                let method = unsafe { cache.method::<unsafe extern "C" fn()>(&key) }?;
                *address = method.address() as usize;
            }
        }
        own.push(addresses);
    }
    if own.iter().flatten().any(|address| *address != 0) {
        // The first stays: there is one program.
        let _ = OWN.set(own);
    }
    Ok(())
}

/// The operator to be called on this thread now.
#[inline]
fn operator(number: usize, library: &AtomicUsize, name: &CStr) -> Operator {
    let own = OWN.get().and_then(|own| of_program(own, number));
    let address = own.unwrap_or_else(|| match library.load(Ordering::Relaxed) {
        0 => find(library, name),
        address => address,
    });
    // SAFETY: an operator, the program's or the library's; it looks at as many arguments as it has.
    unsafe { std::mem::transmute::<usize, Operator>(address) }
}

/// After the program's last handler only what is not the program's is given back: LLVM's, by its destructors.
#[cold]
fn of_program(own: &[[usize; NAMES.len()]], number: usize) -> Option<usize> {
    let instance = instance::current().filter(|_| !process::is_over())?;
    let address = own.get(instance.number as usize)?[number];
    (address != 0).then_some(address)
}

#[cold]
fn find(library: &AtomicUsize, name: &CStr) -> usize {
    // SAFETY: a string of C; looking runs nothing.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
    if address == 0 {
        // Nobody who calls it was linked without the library that has it.
        std::process::abort();
    }
    library.store(address, Ordering::Relaxed);
    address
}
