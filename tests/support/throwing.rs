//! Functions that throw, clean up, throw again and catch, by the C++ ABI of libstdc++: each a
//! module that defines `@self`, and declares the others by their names.

/// What throwing needs of libstdc++, and of the test (`note`).
const DECLARATIONS: &str = r#"
@_ZTIl = external constant ptr
@_ZTVN10__cxxabiv117__class_type_infoE = external global [0 x ptr]
@_ZTS4Mine = linkonce_odr constant [6 x i8] c"4Mine\00"
@_ZTI4Mine = linkonce_odr constant { ptr, ptr } { ptr getelementptr inbounds (ptr, ptr
  @_ZTVN10__cxxabiv117__class_type_infoE, i64 2), ptr @_ZTS4Mine }
declare ptr @__cxa_allocate_exception(i64)
declare void @__cxa_throw(ptr, ptr, ptr) noreturn
declare ptr @__cxa_begin_catch(ptr)
declare void @__cxa_end_catch()
declare void @__cxa_rethrow() noreturn
declare i32 @__gxx_personality_v0(...)
declare i32 @llvm.eh.typeid.for.p0(ptr)
declare void @note(i64)
"#;

/// The names of what is declared above.
pub const IMPORTS: [&str; 8] = [
    "_ZTIl",
    "_ZTVN10__cxxabiv117__class_type_infoE",
    "__cxa_allocate_exception",
    "__cxa_throw",
    "__cxa_begin_catch",
    "__cxa_end_catch",
    "__cxa_rethrow",
    "__gxx_personality_v0",
];

/// Throws a `long` below 0, and an object of a class at 0.
const THROWS: &str = r#"
define i64 @self(i64 %n) {
  %long = icmp slt i64 %n, 0
  br i1 %long, label %number, label %more
more:
  %zero = icmp eq i64 %n, 0
  br i1 %zero, label %object, label %fine
number:
  %e = call ptr @__cxa_allocate_exception(i64 8)
  store i64 %n, ptr %e
  call void @__cxa_throw(ptr %e, ptr @_ZTIl, ptr null)
  unreachable
object:
  %o = call ptr @__cxa_allocate_exception(i64 8)
  store i64 4711, ptr %o
  call void @__cxa_throw(ptr %o, ptr @_ZTI4Mine, ptr null)
  unreachable
fine:
  ret i64 %n
}
"#;

/// Cleans up: notes 1.
const CLEANS: &str = r#"
declare i64 @throws(i64)
define i64 @self(i64 %n) personality ptr @__gxx_personality_v0 {
  %r = invoke i64 @throws(i64 %n) to label %fine unwind label %pad
fine:
  %s = add i64 %r, 1
  ret i64 %s
pad:
  %e = landingpad { ptr, i32 } cleanup
  call void @note(i64 1)
  resume { ptr, i32 } %e
}
"#;

/// Catches everything, notes 10, and throws it again.
const RETHROWS: &str = r#"
declare i64 @cleans(i64)
define i64 @self(i64 %n) personality ptr @__gxx_personality_v0 {
  %r = invoke i64 @cleans(i64 %n) to label %fine unwind label %pad
fine:
  %s = add i64 %r, 1
  ret i64 %s
pad:
  %e = landingpad { ptr, i32 } catch ptr null
  %x = extractvalue { ptr, i32 } %e, 0
  %o = call ptr @__cxa_begin_catch(ptr %x)
  call void @note(i64 10)
  invoke void @__cxa_rethrow() to label %never unwind label %again
never:
  unreachable
again:
  %f = landingpad { ptr, i32 } cleanup
  call void @__cxa_end_catch()
  resume { ptr, i32 } %f
}
"#;

/// Catches a `long`, for which it returns 100 more than that, and an object, for which it returns
/// what is in it.
const CATCHES: &str = r#"
declare i64 @rethrows(i64)
define i64 @self(i64 %n) personality ptr @__gxx_personality_v0 {
  %r = invoke i64 @rethrows(i64 %n) to label %fine unwind label %pad
fine:
  %s = add i64 %r, 1
  ret i64 %s
pad:
  %e = landingpad { ptr, i32 } catch ptr @_ZTI4Mine catch ptr @_ZTIl
  %x = extractvalue { ptr, i32 } %e, 0
  %type = extractvalue { ptr, i32 } %e, 1
  %long = call i32 @llvm.eh.typeid.for.p0(ptr @_ZTIl)
  %islong = icmp eq i32 %type, %long
  br i1 %islong, label %number, label %more
number:
  %p = call ptr @__cxa_begin_catch(ptr %x)
  %v = load i64, ptr %p
  call void @__cxa_end_catch()
  %w = add i64 %v, 100
  ret i64 %w
more:
  %mine = call i32 @llvm.eh.typeid.for.p0(ptr @_ZTI4Mine)
  %ismine = icmp eq i32 %type, %mine
  br i1 %ismine, label %object, label %pass
object:
  %q = call ptr @__cxa_begin_catch(ptr %x)
  %u = load i64, ptr %q
  call void @__cxa_end_catch()
  ret i64 %u
pass:
  resume { ptr, i32 } %e
}
"#;

/// Names and texts; each calls the one before it.
pub fn texts() -> [(&'static str, String); 4] {
    [
        ("throws", THROWS),
        ("cleans", CLEANS),
        ("rethrows", RETHROWS),
        ("catches", CATCHES),
    ]
    .map(|(name, text)| (name, DECLARATIONS.to_owned() + text))
}

/// What `catches` returns, and the sum of what is noted on the way.
pub fn expected(n: i64) -> (i64, i64) {
    match n {
        ..0 => (n + 100, 11),
        0 => (4711, 11),
        1.. => (n + 3, 0),
    }
}

/// Addresses of what the texts import from libstdc++; `None`, and a word about it, where that is
/// not installed.
pub fn imports() -> Option<Vec<(&'static str, *const ())>> {
    // SAFETY: a string of C; the library's initialisers have no requirements, and it stays.
    let library = unsafe { libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        eprintln!("SKIPPED: there is no libstdc++.so.6 here, so no C++ exception was thrown");
        return None;
    }
    let find = |name: &'static str| {
        let symbol = std::ffi::CString::new(name).expect("no NUL in it");
        // SAFETY: an open library and a string of C.
        let address = unsafe { libc::dlsym(library, symbol.as_ptr()) };
        assert!(!address.is_null(), "{name}");
        (name, address as *const ())
    };
    Some(IMPORTS.map(find).to_vec())
}
