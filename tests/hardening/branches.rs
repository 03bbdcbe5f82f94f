//! Every indirect call and jump that leads into the cache's memory leads to ENDBR64: seen by stepping through them,
//! one instruction after the other.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use inkpot::{Cache, Fallback, Frontend, Guard, Handle, OptLevel, Tier, Unit};

use crate::support::maps::around;
use crate::support::texts::{Name, Texts, text};
use crate::throwing;

type Method = unsafe extern "C-unwind" fn(i64) -> i64;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// One thread steps at a time, and this is its walk.
static WALK: Walk = Walk {
    inside: [const { AtomicU64::new(0) }; 2],
    before: AtomicU64::new(0),
    is_indirect: AtomicBool::new(false),
    steps: AtomicUsize::new(0),
    led_inside: AtomicUsize::new(0),
    wrong: UnsafeCell::new(Vec::new()),
};
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Walk {
    /// The cache's address space.
    inside: [AtomicU64; 2],
    /// The instruction that was about to run at the last step.
    before: AtomicU64,
    is_indirect: AtomicBool,
    steps: AtomicUsize,
    /// Indirect branches that led into the cache's memory.
    led_inside: AtomicUsize,
    /// From where, and to where there is no ENDBR64. With room for some: the handler allocates nothing.
    wrong: UnsafeCell<Vec<(u64, u64)>>,
}

// SAFETY: `wrong` is used by the one thread that steps, in its handler, and by it before and after.
unsafe impl Sync for Walk {}

/// Whether the instruction there is a call or jump to an address in a register or in memory, without the prefix that
/// exempts it (`notrack`).
///
/// # Safety
/// The thread is about to run it.
unsafe fn is_tracked_branch(at: u64) -> bool {
    let mut at = at as *const u8;
    loop {
        // SAFETY: bytes of one instruction, which is mapped.
        let byte = unsafe { at.read() };
        match byte {
            0x3e => return false,
            0x66 | 0xf2 | 0xf3 | 0x40..=0x4f | 0x64 | 0x65 | 0x2e => {}
            0xff => break,
            _ => return false,
        }
        // SAFETY: a prefix is followed by something.
        at = unsafe { at.add(1) };
    }
    // SAFETY: as above.
    let form = unsafe { at.add(1).read() } >> 3 & 7;
    form == 2 || form == 4
}

extern "C" fn step(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: what the kernel passes to such a handler.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let now = context.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    WALK.steps.fetch_add(1, Ordering::Relaxed);
    let [low, high] = WALK.inside.each_ref().map(|a| a.load(Ordering::Relaxed));
    if WALK.is_indirect.load(Ordering::Relaxed) && (low..high).contains(&now) {
        WALK.led_inside.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the thread is about to run what is there; slots end with whole pages.
        let there = unsafe { (now as *const [u8; 4]).read() };
        if there != ENDBR64 {
            // SAFETY: see `Walk`.
            let wrong = unsafe { &mut *WALK.wrong.get() };
            if wrong.len() < wrong.capacity() {
                wrong.push((WALK.before.load(Ordering::Relaxed), now));
            }
        }
    }
    // SAFETY: the thread is about to run what is there.
    let indirect = unsafe { is_tracked_branch(now) };
    WALK.is_indirect.store(indirect, Ordering::Relaxed);
    WALK.before.store(now, Ordering::Relaxed);
}

/// Runs `walked` one instruction after the other, and returns how many indirect branches led into the memory of a
/// cache which has something at `inside`, and those that led to anything but ENDBR64.
fn walk(inside: *const (), walked: impl FnOnce()) -> (usize, Vec<(u64, u64)>) {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: a handler of the three-argument form, which only touches `WALK`.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = step as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            assert_eq!(
                libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()),
                0
            );
        }
    });
    let Range { start, end } = around(inside as u64);
    WALK.inside[0].store(start, Ordering::Relaxed);
    WALK.inside[1].store(end, Ordering::Relaxed);
    WALK.is_indirect.store(false, Ordering::Relaxed);
    WALK.led_inside.store(0, Ordering::Relaxed);
    // SAFETY: nobody steps now.
    unsafe { *WALK.wrong.get() = Vec::with_capacity(64) };
    set_trap_flag(true);
    walked();
    set_trap_flag(false);
    // SAFETY: nobody steps any more.
    let wrong = std::mem::take(unsafe { &mut *WALK.wrong.get() });
    (WALK.led_inside.load(Ordering::Relaxed), wrong)
}

fn set_trap_flag(on: bool) {
    let bit: u64 = if on { 0x100 } else { 0 };
    // SAFETY: the flags are as before, but for the one that makes a trap of each instruction.
    unsafe {
        std::arch::asm!(
            "pushfq",
            "and qword ptr [rsp], -257",
            "or qword ptr [rsp], {bit}",
            "popfq",
            bit = in(reg) bit,
        );
    }
}

/// Texts, of which some have a fallback.
struct WithFallbacks(Texts);

inkpot::fallback! {
    unsafe extern "C" fn interpreted(word: usize, x: i64) -> i64 {
        word as i64 + x
    }
}

impl Frontend for WithFallbacks {
    type Key = Name;

    fn emit<'ctx>(
        &self,
        key: &Name,
        unit: &mut Unit<'_, 'ctx, Name>,
    ) -> Result<(), inkpot::BoxError> {
        self.0.emit(key, unit)
    }

    fn fallback(&self, key: &Name) -> Fallback {
        match key.as_str() {
            "slow" => Fallback::to(interpreted as *const (), 40),
            _ => Fallback::none(),
        }
    }
}

/// Calls by cells, by pointers, by jump tables, by address of blocks, and landings of exceptions.
fn texts() -> Texts {
    let mut texts = Texts::default();
    for (name, text) in throwing::texts() {
        texts.insert(name, &text);
    }
    let mut add = |name, text: &str| texts.insert(name, text);
    add(
        "leaf",
        "define i64 @self(i64 %x) { %r = add i64 %x, 1  ret i64 %r }",
    );
    add(
        "slow",
        "define i64 @self(i64 %x) { %r = add i64 %x, 40  ret i64 %r }",
    );
    add(
        "calls",
        "declare i64 @leaf(i64)  declare i64 @slow(i64)
         define i64 @self(i64 %x) { %a = call i64 @leaf(i64 %x)  %b = call i64 @slow(i64 %a)
         %c = call i64 @leaf(i64 %b)  ret i64 %c }",
    );
    add(
        "by pointer",
        "declare i64 @leaf(i64)  declare i64 @host(ptr, i64)
         define i64 @self(i64 %x) { %r = call i64 @host(ptr @leaf, i64 %x)  ret i64 %r }",
    );
    add(
        "own pointer",
        "@table = private constant [2 x ptr] [ptr @one, ptr @two]
         define internal i64 @one(i64 %x) { %r = mul i64 %x, 3  ret i64 %r }
         define internal i64 @two(i64 %x) { %r = mul i64 %x, 5  ret i64 %r }
         define i64 @self(i64 %x) { %i = and i64 %x, 1  %p = getelementptr ptr, ptr @table, i64 %i
         %f = load volatile ptr, ptr %p  %r = call i64 %f(i64 %x)  ret i64 %r }",
    );
    add(
        "cases",
        "declare i64 @leaf(i64)
         define i64 @self(i64 %x) {
         switch i64 %x, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d i64 4, label %e
           i64 5, label %f ]
         a: %ra = call i64 @leaf(i64 5) ret i64 %ra
         b: %rb = call i64 @leaf(i64 4) ret i64 %rb
         c: %rc = mul i64 %x, %x ret i64 %rc
         d: %rd = sdiv i64 100, %x ret i64 %rd
         e: %re = xor i64 %x, 77 ret i64 %re
         f: %rf = shl i64 %x, 7 ret i64 %rf
         other: ret i64 0 }",
    );
    add(
        "blocks",
        "define i64 @self(i64 %x) {
         entry: %i = and i64 %x, 1  %p = getelementptr [2 x ptr], ptr @blocks, i64 0, i64 %i
           %b = load volatile ptr, ptr %p  indirectbr ptr %b, [label %even, label %odd]
         even: ret i64 100
         odd: ret i64 101 }
         @blocks = private constant [2 x ptr] [ptr blockaddress(@self, %even), ptr blockaddress(@self, %odd)]",
    );
    add(
        "loops",
        "define i64 @self(i64 %n) {
         entry: br label %loop
         loop: %i = phi i64 [ 0, %entry ], [ %j, %loop ]  %j = add i64 %i, 1
           %v = call i64 asm sideeffect \"\", \"=r,0\"(i64 %j)  %m = icmp slt i64 %v, %n
           br i1 %m, label %loop, label %end
         end: ret i64 %j }",
    );
    texts
}

unsafe extern "C-unwind" fn host(f: Method, x: i64) -> i64 {
    // SAFETY: what a method was given as the address of another.
    unsafe { f(x) }
}

extern "C" fn note(_: i64) {}

fn cache(targets: bool, level: OptLevel, tiers: bool) -> Cache<Name> {
    let tier = Tier::new("last", level);
    let mut first = Tier::new("first", level);
    first = first.promote_after(4);
    let mut builder = Cache::builder(WithFallbacks(texts()))
        .branch_targets(targets)
        .polls(true)
        .batch_window(Duration::ZERO)
        .import("host", host as *const ())
        .import("note", note as *const ());
    for (name, address) in throwing::imports().into_iter().flatten() {
        builder = builder.import(name, address);
    }
    let builder = match tiers {
        true => builder.tiers([first, tier]),
        false => builder.tiers([tier]),
    };
    builder.build().expect("a cache")
}

/// Calls a method: its code if there is some, else its address, which waits for some.
fn call(handle: &Handle<Name, Method>, guard: &Guard<'_>, argument: i64) -> i64 {
    let address = handle.address();
    // SAFETY: the type is the texts', and the thread is pinned. (A panic would take minutes, step by step.)
    unsafe {
        match handle.entry(guard) {
            Some(entry) => entry.call(argument),
            None => std::mem::transmute::<*const (), Method>(address)(argument),
        }
    }
}

/// Calls everything, by callbacks too; what it says must be as ever. While there is no code yet (if `cold`) it
/// walks through one call alone: a stack is scanned while that waits, which takes seconds, step by step.
fn everything(cache: &Cache<Name>, cold: bool) -> (usize, Vec<(u64, u64)>) {
    let me = cache.participant("walks");
    let names = [
        ("calls", 1, 43),
        ("by pointer", 8, 9),
        ("own pointer", 9, 45),
        ("cases", 3, 33),
        ("cases", 1, 5),
        ("blocks", 7, 101),
        ("loops", 20, 20),
    ];
    let handles: Vec<_> = names.map(|(name, ..)| text::<Method>(cache, name)).into();
    let catches = throwing::imports().map(|_| text::<Method>(cache, "catches"));
    let callback = handles[0].callback().expect("there are stubs");
    let inside = handles[0].address();
    let run = |guard: &Guard<'_>| {
        for (handle, (name, argument, expected)) in handles.iter().zip(names) {
            let got = call(handle, guard, argument);
            assert_eq!(got, expected, "{name}");
        }
        if let Some(catches) = &catches {
            assert_eq!(call(catches, guard, -5), 95);
        }
        // SAFETY: a callback is what its method is.
        let called = unsafe { std::mem::transmute::<*const (), Method>(callback)(1) };
        assert_eq!(called, 43);
    };
    let first = text::<Method>(cache, "leaf");
    let mut all = (0, Vec::new());
    let mut add = |(led, wrong)| {
        all.0 += led;
        all.1.extend::<Vec<_>>(wrong);
    };
    let guard = me.pin();
    if cold {
        add(walk(inside, || assert_eq!(call(&first, &guard, 1), 2)));
    }
    run(&guard);
    // Counters are full after some of these, and what they are full of is called after that.
    for _ in 0..6 {
        add(walk(inside, || {
            assert_eq!(call(&handles[0], &guard, 1), 43)
        }));
        run(&guard);
    }
    add(walk(inside, || run(&guard)));
    drop(guard);
    let slow = text::<Method>(cache, "slow");
    add(walk(inside, || {
        let guard = me.pin();
        // SAFETY: its type.
        assert_eq!(unsafe { slow.entry_or_fallback(&guard).call(2) }, 42);
    }));
    all
}

#[test]
fn all_indirect_branches_lead_to_endbr64() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    use OptLevel::{O0, O2};
    for (level, tiers) in [(O0, false), (O0, true), (O2, true)] {
        let cache = cache(true, level, tiers);
        let (led, wrong) = everything(&cache, level == O2);
        let name = |at: u64| cache.symbol_at(at as *const ());
        let places = wrong
            .iter()
            .map(|(from, to)| (from, name(*from), to, name(*to)));
        let places: Vec<_> = places.collect();
        assert!(wrong.is_empty(), "{level:?}: {places:x?}");
        assert!(led > 40, "{led}");
    }
}

/// The walk finds what there is to find.
#[test]
fn without_it_they_lead_elsewhere() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let (led, wrong) = everything(&cache(false, OptLevel::O2, false), false);
    assert!(led > 40 && wrong.len() > 10, "{led} {wrong:x?}");
}
