//! What has no bytes: constants and functions that code refers to all the same.

mod support;

use inkpot::{Cache, OptLevel};
use support::texts::{Name, Texts, text};

type Address = unsafe extern "C" fn() -> usize;

extern "C" fn address_of(what: usize) -> usize {
    what
}

/// Each returns the address of something without bytes, some after the host has seen it.
const TEXTS: [(&str, &str); 9] = [
    (
        "nothing else",
        "@empty = private constant [0 x i8] zeroinitializer
         define ptr @self() {
           ret ptr @empty
         }",
    ),
    (
        "a structure and nothing else",
        "@empty = private unnamed_addr constant {} zeroinitializer
         define ptr @self() {
           ret ptr @empty
         }",
    ),
    (
        "a variable and nothing else",
        "; allow data
         @empty = private global [0 x i32] zeroinitializer
         define ptr @self() {
           ret ptr @empty
         }",
    ),
    (
        "alone",
        "@empty = private constant [0 x i8] zeroinitializer
         declare i64 @address_of(ptr)
         define i64 @self() {
           %y = call i64 @address_of(ptr @empty)
           ret i64 %y
         }",
    ),
    (
        "at the end",
        "@words = private constant [3 x i64] [i64 1, i64 2, i64 3]
         @empty = private constant [0 x i64] zeroinitializer
         declare i64 @address_of(ptr)
         define i64 @self() {
           %x = call i64 @address_of(ptr @words)
           %y = call i64 @address_of(ptr @empty)
           %far = sub i64 %y, %x
           %near = icmp ule i64 %far, 4096
           %z = select i1 %near, i64 %y, i64 0
           ret i64 %z
         }",
    ),
    (
        "aligned",
        "@empty = private constant [0 x i8] zeroinitializer, align 64
         declare i64 @address_of(ptr)
         define i64 @self() {
           %y = call i64 @address_of(ptr @empty)
           %low = and i64 %y, 63
           %good = icmp eq i64 %low, 0
           %z = select i1 %good, i64 %y, i64 0
           ret i64 %z
         }",
    ),
    (
        "a structure",
        "@empty = private unnamed_addr constant {} zeroinitializer
         declare i64 @address_of(ptr)
         define i64 @self() {
           %y = call i64 @address_of(ptr @empty)
           ret i64 %y
         }",
    ),
    (
        "in a table",
        "@empty = private constant {} zeroinitializer
         @table = private constant [2 x ptr] [ptr @empty, ptr @address_of]
         declare i64 @address_of(ptr)
         define i64 @self() {
           %p = load volatile ptr, ptr @table
           %y = call i64 @address_of(ptr %p)
           ret i64 %y
         }",
    ),
    (
        "a variable",
        "; allow data
         @empty = private global [0 x i8] zeroinitializer
         declare i64 @address_of(ptr)
         define i64 @self() {
           %y = call i64 @address_of(ptr @empty)
           ret i64 %y
         }",
    ),
];

fn cache(level: OptLevel) -> Cache<Name> {
    let frontend = Texts::new(TEXTS);
    Cache::builder(frontend)
        .import("address_of", address_of as *const ())
        .opt_level(level)
        .build()
        .unwrap()
}

fn check(cache: &Cache<Name>, name: &str) {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = text::<Address>(cache, name).get(&mut guard);
    let entry = entry.unwrap_or_else(|error| panic!("{name}: {error}"));
    // SAFETY: all texts have this type.
    let address = unsafe { entry.call() };
    // A region spans less than 2 GiB, and code and constants of a batch lie in one.
    // SAFETY: the pointer is not used to call.
    let code = unsafe { entry.pointer() } as usize;
    let distance = address.abs_diff(code);
    assert!(distance < 2 << 30, "{name}: {address:#x}");
}

#[test]
fn the_address_of_something_without_bytes_is_near_the_code() {
    for level in [OptLevel::O0, OptLevel::O2] {
        for (name, _) in TEXTS {
            check(&cache(level), name);
        }
    }
}

#[test]
fn things_without_bytes_share_a_batch() {
    for level in [OptLevel::O0, OptLevel::O2] {
        let cache = cache(level);
        for (name, _) in TEXTS {
            text::<Address>(&cache, name).request().unwrap();
        }
        for (name, _) in TEXTS {
            check(&cache, name);
        }
        assert_eq!(cache.statistics().failures, 0);
    }
}

/// Nobody may call it, and its code may be nothing at all.
#[test]
fn a_method_without_instructions_has_an_entry() {
    for level in [OptLevel::O0, OptLevel::O2] {
        let texts = Texts::new([("never", "define i64 @self() {\n unreachable\n }")]);
        let cache = Cache::builder(texts).opt_level(level).build().unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        let never = text::<Address>(&cache, "never");
        let entry = never.get(&mut guard).unwrap();
        // SAFETY: the pointer is not used to call.
        let code = unsafe { entry.pointer() } as usize;
        let texts = 64 << 10..1 << 47; // not a null pointer, whatever the lowest address is
        assert!(texts.contains(&code), "{code:#x}");
        assert!(cache.is_resident(&"never".to_owned()));
        assert!(cache.statistics().mapped_code_bytes > 0);
    }
}
