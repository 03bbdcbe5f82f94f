//! Methods that are larger than a slot of code memory (16 KiB): text, jump tables, constants and
//! data of many slots.

mod support;

use std::fmt::Write;

use inkpot::{Cache, OptLevel};
use support::texts::{Name, Texts, text};
use support::wait_until;

type Method = unsafe extern "C-unwind" fn(i64) -> i64;

/// A switch of so many cases, each of which does something of its own.
fn switch(cases: i64) -> String {
    let mut ir = "declare i64 @host(i64)\ndefine i64 @self(i64 %n) {\n".to_owned();
    ir += "  switch i64 %n, label %other [";
    for case in 0..cases {
        write!(ir, " i64 {case}, label %c{case}").unwrap();
    }
    ir += " ]\nother:\n  ret i64 -1\n";
    for case in 0..cases {
        let factor = 3 * case + 7;
        write!(
            ir,
            "c{case}:\n  %a{case} = call i64 @host(i64 {case})\n  %b{case} = mul i64 %a{case}, {factor}
  ret i64 %b{case}\n"
        )
        .unwrap();
    }
    ir + "}\n"
}

/// A table of so many constants, and a function that reads one.
fn table(entries: usize) -> String {
    let entry = |i: usize| format!("i64 {}", i * i);
    let list: Vec<String> = (0..entries).map(entry).collect();
    format!(
        "@table = private constant [{entries} x i64] [{}], align 64
         define i64 @self(i64 %n) {{
           %p = getelementptr [{entries} x i64], ptr @table, i64 0, i64 %n
           %v = load i64, ptr %p
           ret i64 %v
         }}",
        list.join(", ")
    )
}

/// So many calls, one after the other.
fn straight(calls: usize) -> String {
    let mut ir = "declare i64 @host(i64)\ndefine i64 @self(i64 %n) {\n".to_owned();
    let mut last = "%n".to_owned();
    for call in 0..calls {
        write!(
            ir,
            "  %h{call} = call i64 @host(i64 {last})\n  %s{call} = xor i64 %h{call}, {}\n",
            0x1_2345_6789 + call
        )
        .unwrap();
        last = format!("%s{call}");
        // One block would take LLVM far longer.
        if call % 50 == 49 {
            write!(ir, "  br label %b{call}\nb{call}:\n").unwrap();
        }
    }
    ir + &format!("  ret i64 {last}\n}}\n")
}

extern "C" fn host(n: i64) -> i64 {
    n.wrapping_mul(5) + 1
}

fn build(texts: Texts) -> Cache<Name> {
    Cache::builder(texts)
        .opt_level(OptLevel::O0)
        .import("host", host as *const ())
        .build()
        .unwrap()
}

#[test]
fn methods_of_many_slots() {
    const CALLS: usize = 50_000;
    const CASES: i64 = 10_000;
    let (switch, table, straight) = (switch(CASES), table(40_000), straight(CALLS));
    let small = "define i64 @self(i64 %n) { %m = add i64 %n, $N  ret i64 %m }";
    let cache = build(Texts::new([
        ("switch", &switch),
        ("table", &table),
        ("straight", &straight),
        ("small", small),
    ]));
    let me = cache.participant("test");
    let call = |name: &str, n: i64| {
        let handle = text::<Method>(&cache, name);
        let mut guard = me.pin();
        // SAFETY: the type is right, and arguments are within the table.
        unsafe { handle.get(&mut guard).unwrap().call(n) }
    };
    let straight = |n: i64| (0..CALLS as i64).fold(n, |n, call| host(n) ^ (0x1_2345_6789 + call));
    for round in 0..2 {
        assert_eq!(call("small#1", 1), 2);
        for n in [0, 1, 4_999, CASES - 1] {
            assert_eq!(call("switch", n), host(n) * (3 * n + 7));
        }
        assert_eq!(call("switch", CASES), -1);
        assert_eq!(call("small#2", 1), 3);
        for n in [0, 12_345, 39_999] {
            assert_eq!(call("table", n), n * n);
        }
        assert_eq!(call("small#3", 1), 4);
        // It takes a while to compile.
        if round == 0 {
            assert_eq!(call("straight", 3), straight(3));
            let bytes = cache.statistics().bytes;
            assert!(bytes.text > 1 << 20, "{}", bytes.text);
            assert!(bytes.constants > 40_000 * 8 + 4 * CASES as u64);
            cache.seal();
            cache.evict_all();
            wait_until("all is recycled", || {
                cache.statistics().mapped_code_bytes == 0
            });
        }
    }
}

/// Alignments beyond a page and beyond a slot, of functions, constants and data.
#[test]
fn large_alignments_are_honoured() {
    let aligned = "; allow data
        @constant = internal constant [3 x i64] [i64 1, i64 2, i64 $N], align $N
        @data = internal global [3 x i64] [i64 4, i64 5, i64 $N], align $N
        @zeros = internal global [5 x i8] zeroinitializer, align $N
        define i64 @self(i64 %i) align $N {
          %c = getelementptr [3 x i64], ptr @constant, i64 0, i64 %i
          %a = load i64, ptr %c
          %d = getelementptr [3 x i64], ptr @data, i64 0, i64 %i
          %b = load i64, ptr %d
          %sum = add i64 %a, %b
          store i64 %sum, ptr %d
          %lowest = ptrtoint ptr @constant to i64
          %l1 = ptrtoint ptr @data to i64
          %l2 = ptrtoint ptr @zeros to i64
          %o1 = or i64 %lowest, %l1
          %o2 = or i64 %o1, %l2
          %mask = sub i64 $N, 1
          %off = and i64 %o2, %mask
          %r = add i64 %sum, %off
          ret i64 %r
        }";
    let small = "define i64 @self(i64 %x) {\n %y = add i64 %x, $N\n ret i64 %y\n}";
    let cache: Cache<Name> = Cache::builder(Texts::new([("aligned", aligned), ("small", small)]))
        .opt_level(OptLevel::O0)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let call = |name: &str, n: i64| {
        let handle = text::<Method>(&cache, name);
        let mut guard = me.pin();
        // SAFETY: the type is right, and arguments are within the arrays.
        unsafe { handle.get(&mut guard).unwrap().call(n) }
    };
    for _ in 0..2 {
        for align in [8192, 16 << 10, 64 << 10, 2 << 20] {
            assert_eq!(call(&format!("small#{align}"), 1), align + 1);
            let name = format!("aligned#{align}");
            assert_eq!(
                [0, 1, 2].map(|i| call(&name, i)),
                [5, 7, 2 * align],
                "{name}"
            );
            let mut guard = me.pin();
            let entry = text::<Method>(&cache, &name);
            // SAFETY: only its address is looked at.
            let code = unsafe { entry.get(&mut guard).unwrap().pointer() } as usize;
            assert_eq!(code % align as usize, 0, "{name}");
        }
        cache.seal();
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
    }
    let too_much = text::<Method>(&cache, "aligned#4194304");
    assert!(too_much.get(&mut me.pin()).is_err());
}
