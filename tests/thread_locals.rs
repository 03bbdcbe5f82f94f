//! Thread-local variables of methods: their storage is the host's, one for each thread.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use inkpot::{Cache, Error, OptLevel};
use support::texts::{Name, Texts, text};

type Unary = unsafe extern "C" fn(i64) -> i64;

thread_local! {
    static VARIABLES: RefCell<HashMap<u64, Box<[i64; 4]>>> = RefCell::default();
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// Variable n begins with n, n + 10, n + 20, n + 30.
extern "C" fn host_local(n: u64) -> *mut u8 {
    ASKED.set(ASKED.get() + 1);
    VARIABLES.with_borrow_mut(|all| {
        let begin = || Box::new([0, 10, 20, 30].map(|more| n as i64 + more));
        all.entry(n).or_insert_with(begin).as_mut_ptr().cast()
    })
}

fn cache(texts: Texts, level: OptLevel) -> Cache<Name> {
    let host = host_local as extern "C" fn(u64) -> *mut u8 as *const ();
    let builder = Cache::builder(texts).opt_level(level);
    builder.import("host_local", host).build().unwrap()
}

const BUMP: &str = "
    @local.$N = external thread_local global [4 x i64]
    declare ptr @llvm.threadlocal.address.p0(ptr)
    define i64 @self(i64 %x) {
      %p = call ptr @llvm.threadlocal.address.p0(ptr @local.$N)
      %old = load i64, ptr %p
      %new = add i64 %old, %x
      store i64 %new, ptr %p
      ret i64 %new
    }";

/// Uses without the intrinsic: of the variable itself, of constants made of it, and in a phi.
const PLAIN: &str = "
    @local.1 = external thread_local global [4 x i64]
    @local.2 = external thread_local global [4 x i64]
    define i64 @self(i64 %x) {
    entry:
      switch i64 %x, label %other [ i64 0, label %first  i64 1, label %join
                                    i64 2, label %join ]
    first:
      %a = load i64, ptr getelementptr ([4 x i64], ptr @local.1, i64 0, i64 3)
      %n = ptrtoint ptr getelementptr (i8, ptr @local.2, i64 8) to i64
      %q = inttoptr i64 %n to ptr
      %b = load i64, ptr %q
      %s = add i64 %a, %b
      ret i64 %s
    other:
      br label %join
    join:
      %p = phi ptr [ @local.1, %entry ], [ @local.1, %entry ],
                   [ getelementptr ([4 x i64], ptr @local.2, i64 0, i64 2), %other ]
      %y = load i64, ptr %p
      ret i64 %y
    }";

const LOOP: &str = "
    @local.7 = external thread_local global [4 x i64]
    declare ptr @llvm.threadlocal.address.p0(ptr)
    define i64 @self(i64 %x) {
    entry:
      br label %head
    head:
      %i = phi i64 [ 0, %entry ], [ %next, %head ]
      %p = call ptr @llvm.threadlocal.address.p0(ptr @local.7)
      %old = load volatile i64, ptr %p
      %new = add i64 %old, 1
      store volatile i64 %new, ptr %p
      %next = add i64 %i, 1
      %more = icmp slt i64 %next, %x
      br i1 %more, label %head, label %done
    done:
      ret i64 %new
    }";

#[test]
fn each_thread_has_its_own_and_keeps_it_over_evictions() {
    for level in [OptLevel::O0, OptLevel::O2] {
        let cache = cache(Texts::new([("bump", BUMP)]), level);
        let run = || {
            let me = cache.participant("one of two");
            let mut guard = me.pin();
            for n in [3, 4] {
                let bump = text::<Unary>(&cache, &format!("bump#{n}"));
                let mut expected = n;
                for x in 1..20 {
                    expected += x;
                    // SAFETY: the type is right.
                    let y = unsafe { bump.get(&mut guard).unwrap().call(x) };
                    assert_eq!(y, expected);
                    if x % 3 == 0 {
                        cache.evict(&format!("bump#{n}"));
                    }
                }
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(run);
            threads.spawn(run);
        });
        assert!(cache.statistics().compiles > 4);
    }
}

#[test]
fn uses_without_the_intrinsic() {
    for level in [OptLevel::O0, OptLevel::O2] {
        let cache = cache(Texts::new([("plain", PLAIN)]), level);
        let me = cache.participant("test");
        let mut guard = me.pin();
        let plain = text::<Unary>(&cache, "plain");
        let entry = plain.get(&mut guard).unwrap();
        // SAFETY: the type is right.
        let results = [0, 1, 2, 3].map(|x| unsafe { entry.call(x) });
        assert_eq!(results, [31 + 12, 1, 1, 22]);
    }
}

#[test]
fn a_loop_asks_once() {
    let cache = cache(Texts::new([("loop", LOOP)]), OptLevel::O2);
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = text::<Unary>(&cache, "loop");
    let entry = entry.get(&mut guard).unwrap();
    let before = ASKED.get();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(1000) }, 1007);
    assert_eq!(ASKED.get() - before, 1);
}

/// One address for all threads, or storage that eviction would reset: refused by name.
#[test]
fn what_has_no_storage_is_refused() {
    let shared = "
        @local.5 = external thread_local global i64
        @table = private constant [1 x ptr] [ptr @local.5]
        define ptr @self(i64 %i) {
          %at = getelementptr ptr, ptr @table, i64 %i
          %p = load ptr, ptr %at
          ret ptr %p
        }";
    let unknown = "
        @local.x = external thread_local global i64
        define i64 @self(i64 %i) {
          %y = load i64, ptr @local.x
          ret i64 %y
        }";
    let own = "
        @local.6 = internal thread_local global i64 0
        define i64 @self(i64 %i) {
          store i64 %i, ptr @local.6
          ret i64 %i
        }";
    let texts = Texts::new([
        ("shared", shared),
        ("unknown", unknown),
        ("own", own),
        ("bump", BUMP),
    ]);
    let cache = cache(texts, OptLevel::O1);
    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut refusal = |name: &str| match text::<Unary>(&cache, name).get(&mut guard) {
        Err(Error::Refused {
            construct, name, ..
        }) => format!("{construct} {name}"),
        Err(error) => error.to_string(),
        Ok(_) => "none".to_owned(),
    };
    assert!(refusal("shared").contains("the address of the thread-local local.5 in a constant"));
    assert_eq!(refusal("unknown"), "a thread-local local.x");
    assert_eq!(refusal("own"), "a thread-local local.6");
    assert_eq!(refusal("bump#1"), "none");
}
