//! Callbacks: addresses of methods for threads that need not have registered.
//!
//! A callback is a stub of 16 bytes, number *n* at `callbacks + 16 n`:
//!
//! ```text
//! stub   | endbr64 (4) | push n (5) | jmp header (5) | int3 ...
//! header | movabs r11, context (10) | jmp *entry_point ...      in the place of stubs 0 to 2
//! ```
//!
//! Nobody knows how many arguments are on the stack, so the method must find them where the host
//! put them: right above its return address. The stub therefore begins a visit (see
//! `reclaim::visit`), which pins the thread and notes the host's return address, takes that off the
//! stack, and *calls* the method's canonical entry: the new return address lies exactly where the
//! host's was. Every register that may carry an argument is as it was. When the method returns, the
//! stub ends the visit, puts the host's return address back and returns, with every register that
//! may carry a result as the method left it. Calls and returns stay paired, as processors that
//! predict them like it, and those that check them (shadow stacks) demand it.
//!
//! # Unwinding
//!
//! While the method runs, the visit is to be found through rbx, which the method preserves; the
//! host's own rbx stands in the visit. The stub's frame is described by expressions on rbx, and its
//! personality ends the visit when the stack is unwound.
//!
//! That frame has no bytes of its own, and libgcc tells frames apart by the stack pointer of the
//! frame above (`uw_identify_context`): it would take this one for the host's, and expect the
//! host's handler in it. So its CFA is 4 bytes off, where no other frame's can be, and the stack
//! pointer is described besides.

use std::arch::{asm, global_asm};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use super::assembler::Assembler;
use super::targets::ENDBR64;
use super::{errno, resolve};
use crate::code::{CodeSpace, Kind, Run, zeros};
use crate::error::Error;
use crate::reclaim::{self, Domain, Visit, give_up};
use crate::sync::{Mutex, MutexGuard};

const STUB: u64 = 16;
/// Stubs that are made at a time: one slot of their stripe.
const CHUNK: u64 = Kind::Callbacks.slot() / STUB;
/// Numbers taken by the header.
const FIRST: u32 = 3;
/// Chunks that fill the stripe.
const CHUNKS: usize = 1024;

/// Bytes that a callback takes: its stub, its target and its place in the table.
pub(crate) const CALLBACK_BYTES: u64 = 96;

/// What a cache's callbacks hand to [`enter`].
struct Context {
    domain: Arc<Domain>,
    /// By number: the canonical entry of the method, or 0.
    targets: Box<[OnceLock<Box<[AtomicUsize]>>]>,
}

impl Context {
    fn target(&self, number: u32) -> &AtomicUsize {
        let number = number as usize;
        let chunk = self.targets[number / CHUNK as usize]
            .get_or_init(|| (0..CHUNK).map(|_| AtomicUsize::new(0)).collect());
        &chunk[number % CHUNK as usize]
    }
}

/// The stubs of one cache.
pub(crate) struct Callbacks {
    space: Arc<CodeSpace>,
    context: Box<Context>,
    free: Mutex<Free>,
    taken: AtomicUsize,
}

#[derive(Default)]
struct Free {
    /// Given back, the longest ago first: a late call is more likely to be told so.
    numbers: VecDeque<u32>,
    /// The first number that was never used.
    next: u32,
    /// Numbers below this one have memory.
    end: u32,
    /// The mapped chunks; they go with the reservation.
    chunks: Vec<Run>,
    /// A chunk that could not be filled, to be filled at the next try.
    half_made: Option<Run>,
}

impl Callbacks {
    pub(crate) fn new(space: Arc<CodeSpace>, domain: Arc<Domain>) -> Self {
        Self {
            space,
            context: Box::new(Context {
                domain,
                targets: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            }),
            free: Mutex::default(),
            taken: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stub that goes to `target`, the canonical entry of a method that outlives it.
    pub(crate) fn allocate(&self, target: usize) -> Result<u32, Error> {
        know_vectors();
        let mut free = self.lock();
        let number = match free.numbers.pop_front() {
            Some(number) => number,
            None => {
                if free.next == free.end {
                    self.grow(&mut free)?;
                }
                free.next += 1;
                free.next - 1
            }
        };
        drop(free);
        self.context.target(number).store(target, Ordering::Release);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(number)
    }

    /// Gives a stub back.
    pub(crate) fn give_back(&self, number: u32) {
        self.context.target(number).store(0, Ordering::Release);
        self.lock().numbers.push_back(number);
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are in use. Takes no lock.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// What the host calls.
    pub(crate) fn address(&self, number: u32) -> usize {
        (self.space.base(Kind::Callbacks) + u64::from(number) * STUB) as usize
    }

    /// Maps and fills another chunk of stubs.
    fn grow(&self, free: &mut Free) -> Result<(), Error> {
        let first = free.end;
        if free.half_made.is_none() {
            free.half_made = Some(self.space.take(Kind::Callbacks, CHUNK * STUB)?);
        }
        let run = free.half_made.as_mut().expect("taken above");
        assert_eq!(
            run.address,
            self.address(first) as u64,
            "chunks are taken in order"
        );
        let mut bytes = zeros(CHUNK * STUB)?;
        self.fill(first, &mut bytes);
        self.space.write(run, 0, &bytes)?;
        free.chunks.extend(free.half_made.take());
        free.next = free.next.max(FIRST);
        free.end += CHUNK as u32;
        Ok(())
    }

    fn fill(&self, first: u32, bytes: &mut [u8]) {
        bytes.fill(0xcc);
        let header = self.address(0) as u64;
        for (i, stub) in bytes.chunks_exact_mut(STUB as usize).enumerate() {
            let number = first + i as u32;
            let mut at = Assembler::new(stub, self.address(number) as u64);
            at.put(&ENDBR64).push(number).jump(header);
        }
        if first == 0 {
            let context: *const Context = &*self.context;
            bytes[..FIRST as usize * STUB as usize].fill(0xcc);
            Assembler::new(bytes, header).enter(context as u64, entry_point());
        }
    }
}

/// What the assembly must know of vector registers: which parts of them the system lets programs
/// use, and whether it can ask which are in use.
static VECTORS: AtomicU32 = AtomicU32::new(0);
/// The bits of XCR0, and of what XGETBV says: upper halves of ymm, and of zmm registers.
const YMM: u32 = 0x4;
const ZMM: u32 = 0x40;
/// XGETBV can be asked what is in use.
const ASK: u32 = 1 << 31;

fn know_vectors() {
    if !resolve::has_xsave() {
        return;
    }
    let (low, _high): (u32, u32);
    // SAFETY: the system has XSAVE enabled, and with it XGETBV.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _high, options(nomem, nostack))
    };
    let tells = std::arch::x86_64::__cpuid_count(13, 1).eax & 4 != 0;
    let enabled = low & (YMM | ZMM);
    let ask = if tells && enabled != 0 { ASK } else { 0 };
    VECTORS.store(enabled | ask, Ordering::Relaxed);
}

/// Begins a visit. Called by the assembly with the number pushed by the stub, and where the return
/// address is.
unsafe extern "C" fn enter(context: *const Context, number: u32, slot: *const usize) -> *mut Visit {
    let errno = errno::get();
    // SAFETY: the context is a cache's that has not ended: its stub was called.
    let context = unsafe { &*context };
    let target = context.target(number).load(Ordering::Acquire);
    if target == 0 {
        give_up("a callback that was given back was called");
    }
    // SAFETY: called by the assembly, in the frame that it describes.
    let visit = unsafe { reclaim::begin(&context.domain, slot, target) };
    errno::set(errno);
    visit
}

/// Ends a visit whose method has returned.
unsafe extern "C" fn leave(visit: *mut Visit) {
    let errno = errno::get();
    // SAFETY: called by the assembly, with what `enter` returned.
    unsafe { reclaim::end(visit, false) };
    errno::set(errno);
}

unsafe extern "C" {
    fn _Unwind_GetGR(context: *mut std::ffi::c_void, register: i32) -> usize;
}

/// The personality of the stub's frame: ends the visit when the stack is unwound, and handles
/// nothing.
unsafe extern "C" fn personality(
    _version: i32,
    actions: i32,
    _class: u64,
    _exception: *mut std::ffi::c_void,
    context: *mut std::ffi::c_void,
) -> i32 {
    const CLEANUP_PHASE: i32 = 2;
    const CONTINUE_UNWIND: i32 = 8;
    const RBX: i32 = 3;
    if actions & CLEANUP_PHASE != 0 {
        // SAFETY: in this frame rbx is the visit; what was above it is unwound.
        unsafe { reclaim::end(_Unwind_GetGR(context, RBX) as *mut Visit, true) };
    }
    CONTINUE_UNWIND
}

fn entry_point() -> usize {
    unsafe extern "C" {
        fn inkpot_callback_entry();
    }
    inkpot_callback_entry as *const () as usize
}

/// Sets eax to the parts of vector registers that hold anything, and notes it at `[rsp + 512]`.
/// Changes rcx and rdx. Parts that are not in use are zero, and stay so: code that changes them
/// zeroes them at its end.
macro_rules! ask_vectors {
    () => {
        "mov eax, dword ptr [rip + {vectors}]
         test eax, eax
         jns 2f
         mov ecx, 1
         xgetbv
         2:
         and eax, {ymm} + {zmm}
         mov [rsp + 512], eax"
    };
}

/// Moves as much as is in use (eax) of each of these vector registers, to or from memory at rsp.
macro_rules! vectors {
    ($way:ident $($n:literal)*) => {
        concat!(
            "test al, {zmm}\n jnz 4f\n",
            "test al, {ymm}\n jnz 3f\n",
            $(vectors!(@$way "movups" "xmm" $n),)*
            "jmp 5f\n 3:\n",
            $(vectors!(@$way "vmovups" "ymm" $n),)*
            "jmp 5f\n 4:\n",
            $(vectors!(@$way "vmovups" "zmm" $n),)*
            "5:\n"
        )
    };
    (@save $move:literal $kind:literal $n:literal) => {
        concat!($move, " [rsp + 64*", $n, "], ", $kind, $n, "\n")
    };
    (@load $move:literal $kind:literal $n:literal) => {
        concat!($move, " ", $kind, $n, ", [rsp + 64*", $n, "]\n")
    };
}

/// How rbx and the return address are found through rbx: DW_CFA_val_expression of
/// `DW_OP_breg3 8, DW_OP_deref` for rbx, of `DW_OP_breg3 0, DW_OP_deref` for the return address.
macro_rules! found_through_rbx {
    () => {
        ".cfi_escape 0x16, 0x03, 0x03, 0x73, 0x08, 0x06
         .cfi_escape 0x16, 0x10, 0x03, 0x73, 0x00, 0x06"
    };
}

global_asm!(
    ".pushsection .text.inkpot_callback,\"ax\",@progbits",
    // On entry: [rsp] = number, [rsp + 8] = the return address of the host's call, r11 = context.
    ".p2align 4",
    ".hidden inkpot_callback_entry",
    ".globl inkpot_callback_entry",
    ".type inkpot_callback_entry,@function",
    "inkpot_callback_entry:",
    ".cfi_startproc",
    ".cfi_personality 0x1b, inkpot_callback_personality",
    ".cfi_def_cfa rsp, 16",
    "endbr64",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbp, -24",
    "mov rbp, rsp",
    ".cfi_def_cfa rbp, 24",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "sub rsp, 576",
    "and rsp, -64",
    ask_vectors!(),
    vectors!(save 0 1 2 3 4 5 6 7),
    "mov rdi, r11",
    "mov esi, [rbp + 8]",
    "lea rdx, [rbp + 16]",
    "call {enter}",
    "mov r11, rax",
    "mov eax, [rsp + 512]",
    vectors!(load 0 1 2 3 4 5 6 7),
    "lea rsp, [rbp - 64]",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "pop rbp",
    ".cfi_def_cfa rsp, 16",
    ".cfi_restore rbp",
    "mov [r11 + 8], rbx",
    "mov rbx, r11",
    found_through_rbx!(),
    // The call puts its return address exactly where the host's was.
    "add rsp, 16",
    ".cfi_def_cfa rsp, 4",
    ".cfi_escape 0x16, 0x07, 0x02, 0x77, 0x00", // rsp is what it is: DW_OP_breg7 0
    "call [rbx + 16]",
    "push qword ptr [rbx]",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rsp",
    ".cfi_restore rip",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rax",
    "push rdx",
    "mov rdi, rbx",
    "mov rbx, [rbx + 8]",
    ".cfi_restore rbx",
    "sub rsp, 688",
    "and rsp, -64",
    ask_vectors!(),
    vectors!(save 0 1),
    // x87 registers are empty but for a result: then the stack's top is not 0.
    "fnstsw ax",
    "test eax, 0x3800",
    "setnz byte ptr [rsp + 516]",
    "jz 6f",
    "fnsave [rsp + 528]",
    "6:",
    "call {leave}",
    "cmp byte ptr [rsp + 516], 0",
    "je 7f",
    "frstor [rsp + 528]",
    "7:",
    "mov eax, [rsp + 512]",
    vectors!(load 0 1),
    "lea rsp, [rbp - 16]",
    "pop rdx",
    "pop rax",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rbp",
    "ret",
    ".cfi_endproc",
    ".size inkpot_callback_entry, . - inkpot_callback_entry",
    ".type inkpot_callback_personality,@function",
    "inkpot_callback_personality:",
    "jmp {personality}",
    ".size inkpot_callback_personality, . - inkpot_callback_personality",
    ".popsection",
    vectors = sym VECTORS,
    ymm = const YMM,
    zmm = const ZMM,
    enter = sym enter,
    leave = sym leave,
    personality = sym personality,
);
