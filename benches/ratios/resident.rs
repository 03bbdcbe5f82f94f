//! Resident memory of methods that are all alive, beyond the bytes of their sections, which any system has to have.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;

use inkpot::{ContextRelease, OptLevel};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, SectionFlags, elf};

use crate::batch::Bare;
use crate::context::settled_rss_kib;
use crate::measure::{Pair, in_a_child};
use crate::methods::{self, Name, Size};
use crate::trackers::Trackers;

const METHODS: u64 = 30_000;
/// LLVM's own tables are filled by the first.
const FIRST: u64 = 256;

const RELEASED: &str = "resident.released";
const WITH_RECIPES: &str = "resident.with_recipes";
const WITH_CONTEXTS: &str = "resident.with_contexts";
const LLJIT: &str = "resident.lljit";

pub fn run() {
    let pair = Pair {
        name: "resident_bytes",
        ours: "contexts released, nothing kept",
        theirs: "LLJIT",
        unit: "bytes a method",
    };
    pair.once(|| in_a_child(RELEASED), || in_a_child(LLJIT));
    for (setting, what) in [
        ("with recipes for moving", WITH_RECIPES),
        ("and with contexts", WITH_CONTEXTS),
    ] {
        let bytes = in_a_child(what);
        eprintln!("resident_bytes: {setting} {bytes:.0} bytes a method");
    }
}

/// What a child measures: bytes a method. `None` for what others measure.
pub fn child(what: &str) -> Option<f64> {
    // Else the allocator keeps what is free at the end of each thread's heap: of what, is chance.
    // SAFETY: an option of the allocator's.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10) };
    match what {
        RELEASED => Some(ours(ContextRelease::AtSealing, false)),
        WITH_RECIPES => Some(ours(ContextRelease::AtSealing, true)),
        WITH_CONTEXTS => Some(ours(ContextRelease::WithGeneration, true)),
        LLJIT => Some(theirs()),
        _ => None,
    }
}

fn ours(release: ContextRelease, recipes: bool) -> f64 {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING)
        .opt_level(OptLevel::O1)
        .release_context(release)
        .keep_recipes(recipes)
        .evacuate(recipes)
        .budget(8 << 30)
        .build()
        .expect("a cache");
    let me = cache.participant("asks");
    let grow = |numbers: std::ops::Range<u64>| {
        let size = Size::Tiny;
        for number in numbers.clone() {
            let handle = methods::handle(&cache, Name { size, number });
            handle.request().expect("the cache is open");
        }
        for number in numbers {
            let handle = methods::handle(&cache, Name { size, number });
            handle.get(&mut me.pin()).expect("it compiles");
        }
        cache.seal();
        settled_rss_kib(&cache);
        held_kib()
    };
    let before = grow(0..FIRST);
    let after = grow(FIRST..FIRST + METHODS);
    // The process ends as it is.
    std::mem::forget(cache);
    (after - before) * 1024.0 / METHODS as f64 - section_bytes()
}

fn theirs() -> f64 {
    let mut bare = Bare::new(Size::Tiny, 64);
    let trackers = Trackers::new();
    let mut grow = |methods: u64| {
        for _ in 0..methods / 64 {
            drop(bare.each(|number, object| trackers.add(number, &object)));
        }
        held_kib()
    };
    let before = grow(FIRST);
    let after = grow(METHODS);
    std::mem::forget(trackers);
    (after - before) * 1024.0 / (METHODS / 64 * 64) as f64 - section_bytes()
}

/// What this process holds of memory when the allocator has given back what it can. Each page of a file in memory counts
/// once, also if it is mapped twice, or is not mapped by those who have not touched it.
fn held_kib() -> f64 {
    // SAFETY: no preconditions.
    unsafe { libc::malloc_trim(0) };
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().next());
        figure
            .and_then(|figure| figure.parse::<f64>().ok())
            .expect("it says so")
    };
    figure("RssAnon:") + figure("RssFile:") + memory_files_kib()
}

/// Of files without a name: of code.
fn memory_files_kib() -> f64 {
    let mut files = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd")
        .expect("Linux has it")
        .flatten()
    {
        let is_one = std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("/memfd:"));
        if is_one && let Ok(file) = std::fs::metadata(entry.path()) {
            files.insert(file.ino(), file.blocks() as f64 / 2.0); // of 512 bytes
        }
    }
    files.values().sum()
}

/// Bytes of what is loaded of a method.
fn section_bytes() -> f64 {
    let mut bytes = 0;
    drop(Bare::new(Size::Tiny, 1).each(|_, object| {
        let file = ElfFile64::<Endianness>::parse(&*object).expect("LLVM's objects are ELF");
        let loaded = |flags| matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC));
        let sections = file.sections().filter(|s| loaded(s.flags()));
        bytes += sections.map(|section| section.size()).sum::<u64>();
    }));
    bytes as f64
}
