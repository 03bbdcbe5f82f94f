//! Fallbacks in IR: what a call in IR can pass arrives at a function with a `nest` parameter, and the word besides.

mod support;

use inkpot::{BoxError, Cache, Fallback, Frontend, OptLevel, Unit};
use support::Unary;
use support::texts::{Name, Texts, text};

/// Texts with a fallback for each name.
struct Falls<F>(Texts, F);

impl<F: Fn(&str) -> Fallback + Send + Sync + 'static> Frontend for Falls<F> {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        self.0.emit(key, unit)
    }

    fn fallback(&self, key: &Name) -> Fallback {
        (self.1)(key)
    }
}

/// A text that never gets code.
const NEVER: &str = "this is no IR";

/// Calls `caller`, whose callee never gets code; `interpreter` is IR too, and finds the word in a `nest` parameter.
fn check(caller: &str, interpreter: &str, expected: impl Fn(i64, i64) -> i64) {
    for level in [OptLevel::O0, OptLevel::O2] {
        let interpreters = Cache::builder(Texts::new([("interpreter", interpreter)]))
            .opt_level(level)
            .build()
            .unwrap();
        let me = interpreters.participant("test");
        let lease = text::<Unary>(&interpreters, "interpreter")
            .lease(&mut me.pin())
            .unwrap();
        // SAFETY: the lease is kept for as long as the cache.
        let entry = unsafe { lease.entry(&me.pin()).pointer() } as *const () as usize;
        let texts = Texts::new([("caller", caller), ("callee", NEVER)]);
        let fallback = move |name: &str| match name {
            "caller" => Fallback::none(),
            _ => Fallback::to(entry as *const (), 5000),
        };
        let cache = Cache::builder(Falls(texts, fallback))
            .opt_level(level)
            .build()
            .unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        let caller = text::<Unary>(&cache, "caller");
        for x in 0..4 {
            // SAFETY: the type is right.
            let y = unsafe { caller.get(&mut guard).unwrap().call(x) };
            assert_eq!(y, expected(x, 5000), "{x} at {level:?}");
        }
    }
}

#[test]
fn many_arguments_arrive_in_ir() {
    let types: Vec<&str> = (0..22)
        .map(|i| if i % 2 == 0 { "i64" } else { "double" })
        .collect();
    let mut caller = format!(
        "declare i64 @callee({})\ndefine i64 @self(i64 %x) {{\n  %f = sitofp i64 %x to double\n",
        types.join(", ")
    );
    let named: Vec<_> = (0..22).map(|i| format!("{} %a{i}", types[i])).collect();
    let mut interpreter = format!(
        "define i64 @self(ptr nest %word, {}) {{\n",
        named.join(", ")
    );
    interpreter += "  %w = ptrtoint ptr %word to i64\n";
    let mut sum = "%w".to_owned();
    for (i, ty) in types.iter().enumerate() {
        caller += &match *ty {
            "i64" => format!("  %a{i} = add i64 %x, {i}\n"),
            _ => format!("  %a{i} = fadd double %f, {i}.0\n"),
        };
        let convert = match *ty {
            "i64" => format!("  %c{i} = add i64 %a{i}, 0\n"),
            _ => format!("  %c{i} = fptosi double %a{i} to i64\n"),
        };
        interpreter += &convert;
        interpreter += &format!(
            "  %m{i} = mul i64 %c{i}, {}\n  %s{i} = add i64 {sum}, %m{i}\n",
            i + 3
        );
        sum = format!("%s{i}");
    }
    caller += &format!(
        "  %y = call i64 @callee({})\n  ret i64 %y\n}}\n",
        named.join(", ")
    );
    interpreter += &format!("  ret i64 {sum}\n}}\n");
    check(&caller, &interpreter, |x, word| {
        word + (0..22).map(|i| (x + i) * (i + 3)).sum::<i64>()
    });
}

/// `al` says how many vector registers are used.
#[test]
fn variable_arguments_arrive_in_ir() {
    let caller = "
        declare i64 @callee(i64, ...)
        define i64 @self(i64 %x) {
          %f = sitofp i64 %x to double
          %y = call i64 (i64, ...) @callee(i64 %x, double %f, i64 3, double 2.0, i64 %x, double 8.0, i64 5,
                  double 16.0, i64 6, double 32.0, i64 7, double 64.0, i64 8, double 128.0, i64 9)
          ret i64 %y
        }";
    let interpreter = "
        declare void @llvm.va_start.p0(ptr)
        declare void @llvm.va_end.p0(ptr)
        define i64 @self(ptr nest %word, i64 %x, ...) {
        entry:
          %w = ptrtoint ptr %word to i64
          %start = add i64 %x, %w
          %list = alloca [24 x i8], align 16
          call void @llvm.va_start.p0(ptr %list)
          br label %loop
        loop:
          %i = phi i64 [ 0, %entry ], [ %next, %loop ]
          %sum = phi i64 [ %start, %entry ], [ %more, %loop ]
          %f = va_arg ptr %list, double
          %n = va_arg ptr %list, i64
          %c = fptosi double %f to i64
          %p = mul i64 %c, %n
          %more = add i64 %sum, %p
          %next = add i64 %i, 1
          %again = icmp slt i64 %next, 7
          br i1 %again, label %loop, label %done
        done:
          call void @llvm.va_end.p0(ptr %list)
          ret i64 %more
        }";
    check(caller, interpreter, |x, word| {
        let rest: i64 = (3..8).map(|i| (1 << i) * (i + 2)).sum();
        word + x + 3 * x + 2 * x + rest
    });
}

/// A result through memory, and a structure by value.
#[test]
fn structures_arrive_in_ir() {
    let caller = "
        %five = type { i64, i64, i64, i64, i64 }
        declare void @callee(ptr sret(%five), ptr byval(%five), i64)
        define i64 @self(i64 %x) {
          %made = alloca %five
          %given = alloca %five
          %at = getelementptr %five, ptr %given, i64 0, i32 4
          %y = add i64 %x, 70
          store i64 %y, ptr %at
          call void @callee(ptr sret(%five) %made, ptr byval(%five) %given, i64 %x)
          %from = getelementptr %five, ptr %made, i64 0, i32 3
          %r = load i64, ptr %from
          ret i64 %r
        }";
    let interpreter = "
        %five = type { i64, i64, i64, i64, i64 }
        define void @self(ptr nest %word, ptr sret(%five) %out, ptr byval(%five) %in, i64 %x) {
          %w = ptrtoint ptr %word to i64
          %from = getelementptr %five, ptr %in, i64 0, i32 4
          %y = load i64, ptr %from
          %a = add i64 %y, %w
          %b = mul i64 %x, 100
          %c = add i64 %a, %b
          %at = getelementptr %five, ptr %out, i64 0, i32 3
          store i64 %c, ptr %at
          ret void
        }";
    check(caller, interpreter, |x, word| word + x + 70 + 100 * x);
}
