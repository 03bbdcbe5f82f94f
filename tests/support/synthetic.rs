//! A backend without LLVM: it writes ELF objects of a few bytes a method, so that a test makes
//! and drops methods by the million.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use inkpot::{
    Assumed, Assumption, Backend, Batch, Builder, Cache, Callee, Error, Handle, Poll, Stress,
};
use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

/// All synthetic methods: an integer to an integer.
pub type Unary = unsafe extern "C-unwind" fn(i64) -> i64;

/// What a method does with its argument `x`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum How {
    /// `x + n`
    Leaf,
    /// Jumps to its callee, through the cell, with `x + n`.
    Jump,
    /// Calls its callee through the cell, and adds `n` to what it returns.
    Call,
    /// As `Call`, by the canonical address.
    CallAddress,
    /// As `Call`, and the last of its callees is a `Host`.
    CallHost,
    /// Calls the host function `host` with `x`, and adds `n` to what it returns.
    Host,
    /// Calls `host` with `x` as the last thing that its code has: `host` must not return.
    Last,
    /// As `Leaf`, once the word at `x` is not 0; until then it goes round, and polls if it is told
    /// to.
    Spin,
    /// Cannot be compiled: the backend says so of this method alone.
    Refuse,
    /// The backend gives the whole batch up.
    GiveUp,
    /// The backend panics.
    Panic,
    /// Calls a function that nobody knows.
    Unresolved,
    /// Loads the cell of a method that it has not asked for.
    Stranger,
}

/// A synthetic method: its key says all there is to know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    pub n: u32,
    pub how: How,
    /// Callees below it: the last is a leaf.
    pub depth: u8,
    /// Whether it has an unwind record.
    pub frames: bool,
    /// Bytes of padding behind its code.
    pub padding: u16,
}

/// On one line: tests print long lists of these.
impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.how, self.n)?;
        if self.depth > 1 {
            write!(f, " depth {}", self.depth)?;
        }
        if self.frames {
            write!(f, " framed")?;
        }
        if self.padding > 0 {
            write!(f, " padded {}", self.padding)?;
        }
        Ok(())
    }
}

impl Code {
    pub const fn new(n: u32, how: How) -> Self {
        Self {
            n,
            how,
            depth: 1,
            frames: false,
            padding: 0,
        }
    }

    pub const fn leaf(n: u32) -> Self {
        Self::new(n, How::Leaf)
    }

    pub const fn depth(self, depth: u8) -> Self {
        Self { depth, ..self }
    }

    pub const fn framed(self) -> Self {
        Self {
            frames: true,
            ..self
        }
    }

    pub const fn padded(self, padding: u16) -> Self {
        Self { padding, ..self }
    }

    /// What it calls: several methods have the same callee.
    pub fn callee(&self) -> Option<Self> {
        let calls = [How::Jump, How::Call, How::CallAddress, How::CallHost];
        if !calls.contains(&self.how) {
            return None;
        }
        let n = self.n / 2;
        Some(if self.depth <= 1 {
            let how = match self.how {
                How::CallHost => How::Host,
                _ => How::Leaf,
            };
            Self {
                frames: self.frames,
                ..Self::new(n, how)
            }
        } else {
            Self {
                n,
                depth: self.depth - 1,
                padding: 0,
                ..*self
            }
        })
    }

    /// What a call must return.
    pub fn result(&self, x: i64) -> i64 {
        let below = self.callee().map_or(x, |callee| callee.result(x));
        match self.how {
            How::Host => 3 * x + i64::from(self.n),
            _ => below + i64::from(self.n),
        }
    }
}

thread_local! {
    /// What the next call of `host` on this thread does first.
    static ERRAND: Cell<Option<*mut dyn FnMut()>> = const { Cell::new(None) };
}

/// What `Host` methods call. A negative argument makes it panic, through their frames.
pub extern "C-unwind" fn host(x: i64) -> i64 {
    if let Some(errand) = ERRAND.take() {
        // SAFETY: `inside` set it, and waits for the call that led here.
        unsafe { (*errand)() };
    }
    if x < 0 {
        std::panic::resume_unwind(Box::new(x));
    }
    3 * x
}

/// Runs `errand` inside of a method: `call` calls one that calls `host`, or ends otherwise.
pub fn inside<R>(errand: impl FnOnce(), call: impl FnOnce() -> R) -> R {
    let mut errand = Some(errand);
    let mut run = || errand.take().expect("a call has one errand")();
    let run: *mut (dyn FnMut() + '_) = &mut run;
    // SAFETY: it outlives the call, and `Forgotten` takes back what was not taken.
    let run = unsafe { std::mem::transmute::<*mut (dyn FnMut() + '_), *mut dyn FnMut()>(run) };
    ERRAND.set(Some(run));
    let _forgotten = Forgotten;
    call()
}

struct Forgotten;

impl Drop for Forgotten {
    /// A function of its own, since a fibre may have moved to another thread meanwhile.
    #[inline(never)]
    fn drop(&mut self) {
        ERRAND.set(None);
    }
}

/// What the backend did, for tests to look at.
#[derive(Default)]
pub struct Counts {
    /// Contexts alive.
    pub contexts: AtomicI64,
    pub batches: AtomicU64,
}

/// The backend. It says that a context costs [`CONTEXT`] bytes, and every method in it some more.
#[derive(Clone)]
pub struct Synthetic {
    pub counts: Arc<Counts>,
    pub context_per_method: u64,
    pub relies: Option<Relies>,
    /// Groups that methods are in, by their numbers.
    pub groups: u32,
    /// What the code of a method has at its beginning, in r8.
    pub stamp: Option<Stamp>,
}

/// Called while a method is compiled.
pub type Stamp = Arc<dyn Fn(&Code) -> u32 + Send + Sync>;

/// Called while a method is compiled, with what makes it rely on an assumption.
pub type Relies = Arc<dyn Fn(&Code, &mut dyn FnMut(&Assumption) -> Assumed) + Send + Sync>;

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            context_per_method: CONTEXT_PER_METHOD,
            relies: None,
            groups: 1,
            stamp: None,
        }
    }
}

impl Synthetic {
    /// Methods rely on what this says.
    pub fn relying(relies: impl Fn(&Code) -> Vec<Assumption> + Send + Sync + 'static) -> Self {
        Self {
            relies: Some(Arc::new(move |code, assume| {
                for assumption in relies(code) {
                    assume(&assumption);
                }
            })),
            ..Self::default()
        }
    }
}

pub const CONTEXT: u64 = 1000;
pub const CONTEXT_PER_METHOD: u64 = 10;

/// Counts itself.
pub struct Context(Arc<Counts>);

impl Drop for Context {
    fn drop(&mut self) {
        self.0.contexts.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend<Code> for Synthetic {
    type Context = Context;

    fn open(&self) -> Result<(Context, u64), Error> {
        self.counts.contexts.fetch_add(1, Ordering::SeqCst);
        Ok((Context(self.counts.clone()), CONTEXT))
    }

    fn compile(
        &self,
        _context: &mut Context,
        batch: &mut Batch<'_, Code>,
    ) -> Result<Vec<u8>, Error> {
        self.counts.batches.fetch_add(1, Ordering::SeqCst);
        let mut emitter = Emitter::new();
        for i in 0..batch.len() {
            let code = *batch.key(i);
            if !batch.is_wanted(i) {
                continue;
            }
            if let Some(relies) = &self.relies {
                relies(&code, &mut |assumption| batch.assume(i, assumption));
            }
            let failure = |message: &str| Error::Codegen {
                method: format!("{code:?}"),
                message: message.to_owned(),
            };
            match code.how {
                How::Refuse => batch.fail(i, failure("refused")),
                How::GiveUp => return Err(failure("given up")),
                // Without the message that a panic prints.
                How::Panic => std::panic::resume_unwind(Box::new("a panic on purpose")),
                _ => {
                    let stamp = self.stamp.as_ref().map(|stamp| stamp(&code));
                    emitter.method(i, batch, stamp)?;
                    batch.charge_context(self.context_per_method);
                }
            }
        }
        Ok(emitter.finish())
    }

    fn group(&self, key: &Code) -> u64 {
        u64::from(key.n % self.groups)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        (symbol == "host").then_some(host as *const ())
    }
}

/// Writes one object.
struct Emitter {
    object: Object<'static>,
    frames: Option<(SectionId, u64)>,
}

impl Emitter {
    fn new() -> Self {
        let object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        Self {
            object,
            frames: None,
        }
    }

    fn finish(self) -> Vec<u8> {
        self.object.write().expect("the object is well formed")
    }

    fn method(
        &mut self,
        i: usize,
        batch: &mut Batch<'_, Code>,
        stamp: Option<u32>,
    ) -> Result<(), Error> {
        let code = *batch.key(i);
        let callee = code.callee().map(|key| batch.callee(&key)).transpose()?;
        if let (How::CallAddress, Some(key)) = (code.how, code.callee()) {
            batch.takes_address(&key)?;
        }
        let mut body = Body::of(&code, callee.as_ref(), batch.poll(), stamp);
        body.bytes
            .resize(body.bytes.len() + usize::from(code.padding), 0xcc);
        // A section of its own, so that it can be moved.
        let name = format!(".text.{i}").into_bytes();
        let text = self.object.add_section(Vec::new(), name, SectionKind::Text);
        self.object.append_section_data(text, &body.bytes, 16);
        for (offset, name, kind, addend) in body.relocations {
            let symbol = self.undefined(&name);
            self.relocate(text, offset, symbol, kind, addend);
        }
        let symbol = self.object.add_symbol(Symbol {
            name: batch.symbol(i).into_bytes(),
            value: 0,
            size: body.bytes.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
        if code.frames {
            self.frame(symbol, body.bytes.len() as u32, body.pushes);
        }
        Ok(())
    }

    fn undefined(&mut self, name: &str) -> SymbolId {
        if let Some(known) = self.object.symbol_id(name.as_bytes()) {
            return known;
        }
        self.object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 0,
            kind: SymbolKind::Unknown,
            scope: SymbolScope::Unknown,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        })
    }

    fn relocate(
        &mut self,
        section: SectionId,
        offset: u64,
        symbol: SymbolId,
        r_type: elf::RelocationType,
        addend: i64,
    ) {
        let relocation = Relocation {
            offset,
            symbol,
            addend,
            flags: RelocationFlags::Elf { r_type },
        };
        self.object
            .add_relocation(section, relocation)
            .expect("the relocation can be written");
    }

    /// Adds an unwind record, before the first one the common part.
    fn frame(&mut self, symbol: SymbolId, size: u32, pushes: bool) {
        let (section, cie) = *self.frames.get_or_insert_with(|| {
            let name = b".eh_frame".to_vec();
            let section = self
                .object
                .add_section(Vec::new(), name, SectionKind::ReadOnlyData);
            // Version 1, "zR", code by 1, data by -8, return address in 16, pointers relative to
            // their place in 4 bytes; the frame's address is rsp + 8, the return address below.
            let mut cie = vec![
                20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b,
            ];
            cie.extend([0x0c, 7, 8, 0x90, 1, 0, 0]);
            (section, self.object.append_section_data(section, &cie, 8))
        });
        let mut fde = vec![20, 0, 0, 0];
        let at = self.object.section(section).data().len() as u64;
        let distance = (at + 4 - cie) as u32;
        fde.extend(distance.to_le_bytes());
        fde.extend([0; 4]);
        fde.extend(size.to_le_bytes());
        fde.push(0);
        // After the first four bytes, `sub rsp, 8`, the frame is 16 bytes.
        fde.extend(if pushes { [0x44, 0x0e, 16] } else { [0; 3] });
        fde.extend([0; 4]);
        let written = self.object.append_section_data(section, &fde, 8);
        assert_eq!(written, at, "records follow each other");
        self.relocate(section, at + 8, symbol, elf::R_X86_64_PC32, 0);
    }
}

/// A method's bytes, and what they refer to: offset, symbol, relocation, addend.
struct Body {
    bytes: Vec<u8>,
    relocations: Vec<(u64, String, elf::RelocationType, i64)>,
    /// It begins with `sub rsp, 8`.
    pushes: bool,
}

impl Body {
    fn of(code: &Code, callee: Option<&Callee>, poll: Option<Poll>, stamp: Option<u32>) -> Self {
        const MOV_RAX_RIP: [u8; 3] = [0x48, 0x8b, 0x05];
        const LEA_RAX_RIP: [u8; 3] = [0x48, 0x8d, 0x05];
        const CALL_RAX: [u8; 2] = [0xff, 0xd0];
        let mut body = Self {
            bytes: Vec::new(),
            relocations: Vec::new(),
            pushes: false,
        };
        if let Some(stamp) = stamp {
            body.push(&[0x41, 0xb8]).push(&stamp.to_le_bytes()); // mov r8d, stamp
        }
        let n = code.n.to_le_bytes();
        let cell = || callee.expect("it has a callee").cell.clone();
        match code.how {
            How::Jump => {
                body.push(&[0x48, 0x81, 0xc7]).push(&n); // add rdi, n
                body.push(&MOV_RAX_RIP).refer(cell(), elf::R_X86_64_PC32);
                body.push(&[0xff, 0xe0]); // jmp rax
            }
            How::Call | How::CallHost => {
                body.enter().push(&MOV_RAX_RIP);
                body.refer(cell(), elf::R_X86_64_PC32).push(&CALL_RAX);
                body.leave(n);
            }
            How::CallAddress => {
                let address = callee.expect("it has a callee").address.clone();
                body.enter().push(&LEA_RAX_RIP);
                body.refer(address, elf::R_X86_64_PC32).push(&CALL_RAX);
                body.leave(n);
            }
            How::Host | How::Unresolved | How::Stranger => {
                let name = match code.how {
                    How::Host => "host",
                    How::Stranger => "inkpot.cell.4",
                    _ => "nobody_knows_this",
                };
                body.enter().push(&[0xff, 0x15]); // call [rip + its GOT slot]
                body.refer(name.to_owned(), elf::R_X86_64_GOTPCREL);
                body.leave(n);
            }
            How::Last => {
                body.enter().push(&[0xff, 0x15]); // call [rip + its GOT slot]
                body.refer("host".to_owned(), elf::R_X86_64_GOTPCREL);
            }
            How::Spin => match poll {
                Some(poll) => body.spin_and_poll(poll, n),
                None => {
                    body.push(&[0x48, 0x83, 0x3f, 0]); // cmp qword [rdi], 0
                    body.push(&[0x74, -6i8 as u8]); // je to the beginning
                    body.push(&[0x48, 0x8d, 0x87]).push(&n).push(&[0xc3]);
                }
            },
            _ => {
                body.push(&[0x48, 0x8d, 0x87]).push(&n).push(&[0xc3]); // lea rax, [rdi + n]; ret
            }
        }
        body
    }

    fn spin_and_poll(&mut self, poll: Poll, n: [u8; 4]) {
        self.push(&[0x8b, 0x05]); // mov eax, [rip + the flag]
        self.refer(poll.flag, elf::R_X86_64_PC32);
        self.push(&[0x85, 0xc0, 0x75, 14]); // test eax, eax; jne to the call
        self.push(&[0x48, 0x83, 0x3f, 0]); // cmp qword [rdi], 0
        self.push(&[0x74, -16i8 as u8]); // je to the beginning
        self.push(&[0x48, 0x8d, 0x87]).push(&n).push(&[0xc3]); // lea rax, [rdi + n]; ret
        self.push(&[0xe8]); // call
        self.refer(poll.safepoint, elf::R_X86_64_PC32);
        self.push(&[0xeb, -21i8 as u8]); // jmp to the cmp
    }

    fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// A 32-bit displacement to `symbol`, the last field of its instruction.
    fn refer(&mut self, symbol: String, kind: elf::RelocationType) -> &mut Self {
        let at = self.bytes.len() as u64;
        self.relocations.push((at, symbol, kind, -4));
        self.push(&[0; 4])
    }

    fn enter(&mut self) -> &mut Self {
        self.pushes = true;
        self.push(&[0x48, 0x83, 0xec, 8]) // sub rsp, 8
    }

    fn leave(&mut self, n: [u8; 4]) -> &mut Self {
        self.push(&[0x48, 0x05]).push(&n); // add rax, n
        self.push(&[0x48, 0x83, 0xc4, 8, 0xc3]) // add rsp, 8; ret
    }
}

/// A cache in which what is gone stays `PROT_NONE` for a while, so that a late call is a crash, and
/// in which each method has a generation of its own.
pub fn quarantined() -> Builder<Code> {
    let mut stress = Stress::default();
    stress.quarantine = true;
    let builder = Cache::with_backend(Synthetic::default());
    builder.stress(stress).generation_methods(1)
}

/// A handle to a synthetic method.
pub fn method(cache: &Cache<Code>, code: Code) -> Handle<Code, Unary> {
    // SAFETY: all synthetic methods have this type.
    unsafe { cache.method(&code) }.expect("there are cells")
}

/// Numbers that look random, the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() >> 32) as u32 % n
    }
}
