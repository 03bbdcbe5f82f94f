//! Unwind tables, registered, and walked through by panics and backtraces.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use inkwell::OptimizationLevel::Aggressive;

use super::{Executable, compile};
use crate::link::frames::Frames;
use crate::link::unwind;
use crate::link::{Area, Linked, Needs, Object, Place, Span, link};

/// Tables of tests must not overlap in time: what is found is process-wide.
static TABLES: Mutex<()> = Mutex::new(());

pub(super) fn tables() -> std::sync::MutexGuard<'static, ()> {
    TABLES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A function that calls what it is given, and needs its own frame for it.
pub(super) fn caller(name: &str) -> String {
    format!(
        r#"
        define i64 @{name}(ptr %f, i64 %n) uwtable {{
          %a = alloca i64
          store volatile i64 %n, ptr %a
          %r = call i64 %f(i64 %n)
          %m = load volatile i64, ptr %a
          %s = add i64 %r, %m
          ret i64 %s
        }}
        "#
    )
}

type Callback = unsafe extern "C-unwind" fn(u64) -> u64;

/// What the panic of [`throws`] carries.
struct Thrown(u64);

unsafe extern "C-unwind" fn throws(n: u64) -> u64 {
    // Without the message of the panic hook.
    resume_unwind(Box::new(Thrown(n)))
}

unsafe extern "C-unwind" fn doubles(n: u64) -> u64 {
    n * 2
}

fn call(address: u64, callback: Callback, n: u64) -> u64 {
    // SAFETY: `caller` declares it so, and its memory lives.
    let function = unsafe {
        std::mem::transmute::<*const (), unsafe extern "C-unwind" fn(Callback, u64) -> u64>(
            address as *const (),
        )
    };
    // SAFETY: as above.
    unsafe { function(callback, n) }
}

/// Whether a panic passes through the function.
fn panic_passes(address: u64, n: u64) -> bool {
    assert_eq!(call(address, doubles, n), 3 * n);
    let result = catch_unwind(AssertUnwindSafe(|| call(address, throws, n)));
    let thrown = result
        .err()
        .and_then(|payload| payload.downcast::<Thrown>().ok());
    thrown.is_some_and(|thrown| thrown.0 == n)
}

unsafe extern "C" {
    fn _Unwind_Find_FDE(pc: *const u8, bases: *mut [usize; 3]) -> *const u8;
    fn _Unwind_Backtrace(
        trace: unsafe extern "C" fn(*mut u8, *mut u8) -> i32,
        frames: *mut u8,
    ) -> i32;
    fn _Unwind_GetIP(context: *mut u8) -> usize;
}

fn is_described(pc: u64) -> bool {
    let mut bases = [0; 3];
    // SAFETY: it only looks, and `bases` has the size of `dwarf_eh_bases`.
    let found = unsafe { _Unwind_Find_FDE(pc as *const u8, &raw mut bases) };
    !found.is_null()
}

/// Batches side by side, as in a generation.
struct Run {
    _memory: Executable,
    linked: Vec<Linked>,
}

fn sum(all: &[Object<'_>], of: impl Fn(&Needs) -> Area) -> Area {
    let mut sum = Area::default();
    for object in all {
        let area = of(object.needs());
        sum.align = sum.align.max(area.align);
        sum.size = sum.size.next_multiple_of(area.align) + area.size;
    }
    sum
}

fn cut<'m>(span: &mut Span<'m>, area: &Area) -> Span<'m> {
    let skip = span.address.next_multiple_of(area.align) - span.address;
    let bytes = std::mem::take(&mut span.bytes);
    let (cut, rest) = bytes[skip as usize..].split_at_mut(area.size as usize);
    let address = span.address + skip;
    span.address = address + area.size;
    span.bytes = rest;
    Span {
        address,
        bytes: cut,
    }
}

impl Run {
    fn new(batches: &[Vec<u8>]) -> Self {
        let objects: Vec<Object<'_>> = batches
            .iter()
            .map(|bytes| Object::parse(bytes).expect("parses"))
            .collect();
        let needs = Needs {
            text: sum(&objects, |needs| needs.text),
            constants: sum(&objects, |needs| needs.constants),
            data: sum(&objects, |needs| needs.data),
            unwind: sum(&objects, |needs| needs.unwind),
        };
        let mut memory = Executable::new(&needs);
        let mut linked = Vec::new();
        let mut whole = memory.place();
        for object in &objects {
            let needs = object.needs();
            let place = Place {
                text: cut(&mut whole.text, &needs.text),
                constants: cut(&mut whole.constants, &needs.constants),
                data: cut(&mut whole.data, &needs.data),
                unwind: cut(&mut whole.unwind, &needs.unwind),
            };
            linked.push(link(object, place, &mut |_| None, true).expect("links"));
        }
        memory.seal();
        Self {
            _memory: memory,
            linked,
        }
    }

    fn part(&self, index: usize) -> u64 {
        self.linked[index].unwind.expect("a table")
    }

    fn function(&self, index: usize) -> u64 {
        self.linked[index].functions[0].address
    }
}

fn three_batches() -> Run {
    // Of different sizes, so that records end at 4 and at 8 bytes.
    let first = compile(&caller("first"), Aggressive);
    let second = compile(&(caller("second") + &caller("more")), Aggressive);
    let third = compile(&caller("third"), inkwell::OptimizationLevel::None);
    Run::new(&[first, second, third])
}

#[test]
fn a_panic_passes_through_jitted_frames() {
    let _tables = tables();
    let run = Run::new(&[compile(&caller("one"), Aggressive)]);
    assert!(!is_described(run.function(0)));
    // SAFETY: linked, and deregistered before the memory goes.
    let mut table = unsafe { unwind::register(run.part(0)) };
    assert!(is_described(run.function(0)));
    for n in 0..100 {
        assert!(panic_passes(run.function(0), n));
    }
    // SAFETY: registered above; no thread is in its code.
    unsafe { table.deregister() };
    assert!(!is_described(run.function(0)));
}

#[test]
fn a_backtrace_goes_on_below_jitted_frames() {
    unsafe extern "C" fn note(context: *mut u8, frames: *mut u8) -> i32 {
        // SAFETY: what `_Unwind_Backtrace` hands through, from below.
        unsafe { (*frames.cast::<Vec<u64>>()).push(_Unwind_GetIP(context) as u64) };
        0
    }
    unsafe extern "C-unwind" fn looks(frames: u64) -> u64 {
        // SAFETY: `frames` is the address of the vector below.
        unsafe { _Unwind_Backtrace(note, frames as *mut u8) };
        0
    }
    let _tables = tables();
    let run = Run::new(&[compile(&caller("one"), Aggressive)]);
    let function = &run.linked[0].functions[0];
    let code = function.address..function.address + function.size;
    let walk = || {
        let mut frames: Vec<u64> = Vec::new();
        call(function.address, looks, &raw mut frames as u64);
        let at = frames.iter().position(|ip| code.contains(ip));
        frames.len() - at.expect("the jitted frame")
    };
    let without = walk();
    // SAFETY: linked, and deregistered before the memory goes.
    let mut table = unsafe { unwind::register(run.part(0)) };
    let with = walk();
    // SAFETY: registered above; no thread is in its code.
    unsafe { table.deregister() };
    assert_eq!(without, 1, "the walk ends at a frame that is not described");
    assert!(with > 3, "and goes on when it is: {with} frames");
}

#[test]
fn parts_are_replaced_by_the_whole() {
    let _tables = tables();
    for looked_at_before in [false, true] {
        let run = three_batches();
        // SAFETY: linked, and deregistered before the memory goes.
        let mut parts = [0, 1, 2].map(|index| unsafe { unwind::register(run.part(index)) });
        if looked_at_before {
            assert!((0..3).all(|index| panic_passes(run.function(index), 7)));
        }
        // SAFETY: they are registered, and their code ascends.
        let mut whole = unsafe { unwind::replace(&mut parts) };
        assert_eq!(whole.is_some(), !unwind::tables_are_trees());
        for index in 0..3 {
            assert!(panic_passes(run.function(index), index as u64));
            assert!(is_described(run.function(index)));
        }
        assert!(panic_passes(run.linked[1].functions[1].address, 9));
        // SAFETY: what is registered now; no thread is in its code.
        unsafe {
            match &mut whole {
                Some(whole) => whole.deregister(),
                None => parts.iter_mut().for_each(|part| part.deregister()),
            }
        }
        assert!((0..3).all(|index| !is_described(run.function(index))));
    }
}

/// At no moment of a replacement is any code without its description, and whoever looks finds
/// tables that do not change under it: libgcc counts records, and then copies as many.
#[test]
fn nothing_is_lost_while_others_look() {
    let _tables = tables();
    if unwind::tables_are_trees() {
        return;
    }
    let run = three_batches();
    let stop = AtomicBool::new(false);
    // SAFETY: linked, and deregistered before the memory goes.
    let register = |index| unsafe { unwind::register(run.part(index)) };
    let mut parts = [0, 1, 2].map(register);
    let functions = [0, 1, 2].map(|index| run.function(index));
    // As a region does: what was registered goes when nobody can be inside the code.
    let mut past = Vec::new();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(functions.iter().all(|&function| is_described(function)));
                }
            });
        }
        for _ in 0..5_000 {
            // SAFETY: their code ascends, and nobody else's is between.
            let mut whole = unsafe { unwind::replace(&mut parts) }.expect("tables in a list");
            // The highest first: what is registered later begins no higher.
            for index in [2, 1, 0] {
                past.push(std::mem::replace(&mut parts[index], register(index)));
            }
            // SAFETY: the parts describe the same code.
            unsafe { whole.deregister() };
            past.push(whole);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // SAFETY: no thread is in their code.
    parts
        .iter_mut()
        .for_each(|part| unsafe { part.deregister() });
    assert!((0..3).all(|index| !is_described(run.function(index))));
}

#[test]
fn the_unwinder_answers_as_its_version_says() {
    let _tables = tables();
    // Symbols that came with the release whose tables are trees.
    // SAFETY: strings of C, and looking runs nothing.
    let versioned = unsafe {
        libc::dlvsym(
            libc::RTLD_DEFAULT,
            c"__truncsfbf2".as_ptr(),
            c"GCC_13.0.0".as_ptr(),
        )
    };
    assert_eq!(unwind::tables_are_trees(), !versioned.is_null());
}

#[test]
fn leaf_tables_describe_their_range_exactly() {
    let _tables = tables();
    // Nobody's code: it is only looked up.
    static CODE: [u8; 256] = [0xCC; 256];
    let start = CODE.as_ptr() as u64 + 64;
    let table = unwind::leaf_words(start, 100);
    let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    let frames = Frames::parse(&bytes).expect("a sound table");
    assert_eq!(frames.len + 8, bytes.len());
    assert_eq!(frames.fdes[0].start(&bytes, 0), Some(start));
    assert_eq!(frames.fdes[0].range, 100);
    let address = table.as_ptr() as u64;
    // SAFETY: `leaf_words` makes a sound table, which lives until removed.
    let mut registered = unsafe { unwind::register(address) };
    let described = [start - 1, start, start + 99, start + 100].map(is_described);
    // SAFETY: registered above, and nothing runs there.
    unsafe { registered.deregister() };
    assert_eq!(described, [false, true, true, false]);
}
