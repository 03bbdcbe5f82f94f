//! `pool_constants`: no number of a program's stands in executable memory, and programs do what they did.

use inkpot::{Cache, OptLevel, Tier};

use crate::support::texts::{Name, Texts, text};
use crate::throwing;

type Method = unsafe extern "C" fn(i64) -> i64;

/// Two bytes that instructions of these programs do not have by themselves, twice.
const MARK: [u8; 4] = [0x5f, 0xc3, 0x5f, 0xc3];
const I32: u32 = u32::from_le_bytes(MARK);
const I64: u64 = (I32 as u64) << 32 | I32 as u64;
const I16: u16 = u16::from_le_bytes([0x5f, 0xc3]);

/// Methods of every way that a number gets into code, and what they return for 7. `$I64`, `$I32`, `$I16` and `$F64`
/// are the number.
const PROGRAMS: [(&str, &str); 22] = [
    ("operand", "define i64 @self(i64 %x) { %r = add i64 %x, $I64  ret i64 %r }"),
    ("short operand", "define i64 @self(i64 %x) { %t = trunc i64 %x to i16  %r = mul i16 %t, $I16
        %z = zext i16 %r to i64  ret i64 %z }"),
    ("result", "define i64 @self(i64 %x) { ret i64 $I64 }"),
    ("stored", "define i64 @self(i64 %x) { %p = alloca i64  store volatile i64 $I64, ptr %p
        %r = load volatile i64, ptr %p  ret i64 %r }"),
    ("stored float", "define i64 @self(i64 %x) { %p = alloca double  store volatile double $F64, ptr %p
        %r = load volatile i64, ptr %p  ret i64 %r }"),
    ("float", "define i64 @self(i64 %x) { %f = sitofp i64 %x to double  %s = fadd double %f, $F64
        %r = bitcast double %s to i64  ret i64 %r }"),
    ("copied", "@c = private constant [2 x i64] [i64 $I64, i64 $I64]
        declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
        define i64 @self(i64 %x) { %p = alloca [2 x i64]
        call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr @c, i64 16, i1 false)
        %r = load volatile i64, ptr %p  ret i64 %r }"),
    ("compared", "@c = private constant [8 x i8] c\"\\5F\\C3\\5F\\C3\\5F\\C3\\5F\\C3\"
        declare i32 @memcmp(ptr, ptr, i64)
        define i64 @self(i64 %x) { %p = alloca i64  store volatile i64 %x, ptr %p
        %c = call i32 @memcmp(ptr %p, ptr @c, i64 8)  %z = icmp eq i32 %c, 0
        %r = select i1 %z, i64 1, i64 2  ret i64 %r }"),
    ("cases", "define i64 @self(i64 %x) {
        switch i64 %x, label %other [ i64 $I64, label %a  i64 7, label %b  i64 -5, label %a ]
        a: ret i64 1
        b: ret i64 $I32
        other: ret i64 3 }"),
    ("vector", "define i64 @self(i64 %x) { %v = insertelement <4 x i32> zeroinitializer, i32 1, i64 %x
        %w = add <4 x i32> %v, <i32 $I32, i32 $I32, i32 $I32, i32 $I32>  %c = bitcast <4 x i32> %w to <2 x i64>
        %r = extractelement <2 x i64> %c, i64 0  ret i64 %r }"),
    ("short vector", "define i64 @self(i64 %x) { %v = bitcast i64 %x to <2 x i32>
        %w = xor <2 x i32> %v, <i32 $I32, i32 $I32>  %r = bitcast <2 x i32> %w to i64  ret i64 %r }"),
    ("index", "define i64 @self(i64 %x) { %p = inttoptr i64 %x to ptr
        %q = getelementptr i8, ptr %p, i64 $I32  %r = ptrtoint ptr %q to i64  ret i64 %r }"),
    ("edges", "define i64 @self(i64 %x) {
        entry: switch i64 %x, label %b [ i64 1, label %join  i64 2, label %join ]
        b: %c = icmp sgt i64 %x, 100  br i1 %c, label %join, label %other
        other: br label %join
        join: %r = phi i64 [ $I64, %entry ], [ $I64, %entry ], [ 5, %b ], [ $I32, %other ]  ret i64 %r }"),
    ("pair", "define { i64, i64 } @pair() noinline { ret { i64, i64 } { i64 $I64, i64 $I32 } }
        define i64 @self(i64 %x) { %p = call { i64, i64 } @pair()  %r = extractvalue { i64, i64 } %p, 1  ret i64 %r }"),
    ("argument", "define i64 @it(i64 %a, i64 %b) noinline { %r = sub i64 %a, %b  ret i64 %r }
        define i64 @self(i64 %x) { %r = call i64 @it(i64 $I64, i64 %x)  ret i64 %r }"),
    ("wide", "define i64 @self(i64 %x) { %w = zext i64 %x to i128  %s = mul i128 %w, $I128
        %h = lshr i128 %s, 64  %r = trunc i128 %h to i64  ret i64 %r }"),
    ("address", "define i64 @self(i64 %x) { %p = getelementptr i8, ptr inttoptr (i64 $I64 to ptr), i64 %x
        %r = ptrtoint ptr %p to i64  ret i64 %r }"),
    ("chosen", "define i64 @self(i64 %x) { %c = icmp eq i64 %x, 3  %r = select i1 %c, i64 $I64, i64 $I32  ret i64 %r }"),
    ("bound", "define i64 @self(i64 %x) { %c = icmp ult i64 %x, $I64  %r = zext i1 %c to i64  ret i64 %r }"),
    ("exchanged", "define i64 @self(i64 %x) { %p = alloca i64  store i64 %x, ptr %p
        %r = atomicrmw add ptr %p, i64 $I32 seq_cst  %s = load volatile i64, ptr %p  ret i64 %s }"),
    ("rotated", "declare i64 @llvm.fshl.i64(i64, i64, i64)
        define i64 @self(i64 %x) { %r = call i64 @llvm.fshl.i64(i64 $I64, i64 %x, i64 9)  ret i64 %r }"),
    ("unwound", "declare i32 @__gxx_personality_v0(...)
        define i64 @it(i64 %a) noinline { %r = sub i64 %a, 3  ret i64 %r }
        define i64 @self(i64 %x) personality ptr @__gxx_personality_v0 {
        %r = invoke i64 @it(i64 $I64) to label %fine unwind label %pad
        fine: %s = phi i64 [ $I32, %0 ]  %t = add i64 %r, %s  ret i64 %t
        pad: %l = landingpad { ptr, i32 } cleanup  resume { ptr, i32 } %l }"),
];

fn texts() -> Texts {
    let mut texts = Texts::default();
    for (name, text) in PROGRAMS {
        let text = text
            .replace("$I64", &I64.to_string())
            .replace("$I32", &I32.to_string())
            .replace("$I16", &I16.to_string())
            .replace(
                "$I128",
                &((u128::from(I64) << 64) | u128::from(I64)).to_string(),
            )
            .replace("$F64", &format!("0x{I64:016X}"));
        texts.insert(name, &text);
    }
    texts
}

fn cache(pool: bool, level: OptLevel) -> Cache<Name> {
    let mut builder = Cache::builder(texts())
        .tiers([Tier::new("only", level)])
        .generation_methods(1)
        .pool_constants(pool);
    for (name, address) in throwing::imports().into_iter().flatten() {
        builder = builder.import(name, address);
    }
    builder.build().expect("a cache")
}

/// What a method returns for 7, and whether two bytes of the mark stand in what is executable around it.
fn look(cache: &Cache<Name>, name: &str) -> (i64, bool) {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = text::<Method>(cache, name).get(&mut guard).expect(name);
    // SAFETY: the type is the text's, which does no harm.
    let result = unsafe { entry.call(7) };
    // Its generation is alone in its slot, of which the rest is zero.
    // SAFETY: it is not called.
    let slot = unsafe { entry.pointer() } as usize & !(16 * 1024 - 1);
    // SAFETY: a slot of text is mapped as a whole, readable, as long as the code is pinned.
    let text = unsafe { std::slice::from_raw_parts(slot as *const u8, 16 * 1024) };
    (result, text.windows(2).any(|two| two == &MARK[..2]))
}

#[test]
fn no_number_of_a_program_is_executable() {
    // That the bytes are found where they are not hidden, at some level, shows that the look is worth something.
    let mut found = vec![false; PROGRAMS.len()];
    let unwinds = throwing::imports().is_some();
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
        for (found, (name, _)) in found.iter_mut().zip(PROGRAMS) {
            if name == "unwound" && !unwinds {
                *found = true;
                continue;
            }
            let (plain, pooled) = (cache(false, level), cache(true, level));
            let (expected, there) = look(&plain, name);
            *found |= there;
            let (got, still) = look(&pooled, name);
            assert_eq!(got, expected, "{name} at {level:?}");
            assert!(!still, "{name} at {level:?}");
        }
    }
    // LLVM loads these from data by itself, or makes other numbers of them.
    const BY_ITSELF: [&str; 4] = ["float", "vector", "short vector", "rotated"];
    let unseen = PROGRAMS.iter().zip(&found).filter(|(_, found)| !*found);
    let unseen: Vec<_> = unseen.map(|((name, _), _)| *name).collect();
    assert!(
        unseen.iter().all(|name| BY_ITSELF.contains(name)),
        "{unseen:?}"
    );
}
