//! Makes C programs of many functions: a function of each kind in turn, that call each other at random.
//!
//! The output is determined: all arithmetic is unsigned, every call burns fuel, and each function only calls those
//! before it, or itself with less to do.

use std::fmt::Write;

/// What functions do; each is given `a` and `b`, and works on `r`.
const KINDS: [fn(&mut Maker, usize) -> String; 12] = [
    arithmetic,
    computed_goto,
    jump,
    sort,
    print,
    variadic,
    by_pointer,
    by_value,
    literal,
    switch,
    recursion,
    floating,
];

const HEAD: &str = r#"#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long u;
typedef u function(u, u);
struct three { u x, y; double z; };
static u fuel, calls;
static jmp_buf jumps[16];
static int jump_depth;
static u numbers[64];
static char text[256];
static const char *last = "none";
static u add_up(int count, ...) {
    va_list args;
    va_start(args, count);
    u sum = 0;
    while (count--) sum = sum * 31 + va_arg(args, u);
    va_end(args);
    return sum;
}
static void say(const char *how, ...) {
    va_list args;
    va_start(args, how);
    vprintf(how, args);
    va_end(args);
}
static int enter(void) { calls++; return fuel && fuel--; }
"#;

/// The state of a generation.
struct Maker {
    random: u64,
    out: String,
}

/// A program of `count` functions besides a few helpers, the same for the same seed.
pub fn program(seed: u64, count: usize, fuel: usize) -> String {
    let mut maker = Maker {
        random: seed | 1,
        out: HEAD.to_owned(),
    };
    for index in 0..count {
        writeln!(maker.out, "u f{index}(u, u);").unwrap();
    }
    writeln!(maker.out, "static function *const table[] = {{").unwrap();
    for index in 0..count {
        write!(maker.out, "f{index}, ").unwrap();
    }
    writeln!(maker.out, "}};").unwrap();
    for index in 0..count {
        let body = KINDS[index % KINDS.len()](&mut maker, index);
        write!(
            maker.out,
            "{}\nu f{index}(u a, u b) {{\n    u r = a * 3 + b;\n    if (!enter()) return r;\n{}    return r ^ {index};\n}}\n",
            helpers(index),
            body,
        )
        .unwrap();
    }
    main(&mut maker, count, fuel);
    maker.out
}

fn main(maker: &mut Maker, count: usize, fuel: usize) {
    write!(
        maker.out,
        r#"int main(int argc, char **argv) {{
    u total = (u)argc;
    for (int i = 0; i < {count}; i++) {{
        fuel = {fuel};
        total = total * 1000003 + table[i]((u)i, total);
        if (i % 8 == 0) printf("%d %lu %s\n", i, total, last);
    }}
    printf("%lu calls, total %lu\n", calls, total);
    return (int)(total % 100);
}}
"#
    )
    .unwrap();
}

/// What a kind needs beside its function.
fn helpers(index: usize) -> String {
    match index % KINDS.len() {
        3 => format!(
            "static int compare{index}(const void *x, const void *y) {{\n    u a = *(const u *)x % {m}, b = *(const u *)y % {m};\n    return (a > b) - (a < b);\n}}",
            m = 50 + index
        ),
        7 => format!(
            "static struct three make{index}(struct three t, u x) {{ t.x += x; t.y ^= t.x; t.z += {index}; return t; }}"
        ),
        _ => String::new(),
    }
}

impl Maker {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % limit.max(1)
    }

    /// A call of an earlier function, or an expression where there is none.
    fn call(&mut self, index: usize) -> String {
        let argument = self.below(1000);
        match index {
            0 => format!("(a + {argument})"),
            _ => format!("f{}(r, b + {argument})", self.below(index)),
        }
    }
}

fn arithmetic(maker: &mut Maker, index: usize) -> String {
    let (turns, factor, call) = (2 + maker.below(9), maker.below(99), maker.call(index));
    format!(
        "    for (u i = 0; i < {turns}; i++) r = (r << 3 ^ r >> 5) + i * {factor};\n    static u count;\n    r += ++count;\n    if (r & 1) r += {call};\n    else numbers[r & 63] += r;\n"
    )
}

fn computed_goto(maker: &mut Maker, index: usize) -> String {
    let (call, step) = (maker.call(index), maker.below(50));
    format!(
        "    static void *const labels[] = {{&&plus, &&times, &&call, &&end}};\n    u code = r, turns = 6;\n    goto *labels[code & 3];\nplus: r += {step}; code >>= 2; goto *labels[turns-- ? code & 3 : 3];\ntimes: r *= 5; code >>= 2; goto *labels[turns-- ? code & 3 : 3];\ncall: r ^= {call}; code >>= 2; goto *labels[turns-- ? code & 3 : 3];\nend:;\n"
    )
}

fn jump(maker: &mut Maker, index: usize) -> String {
    let (call, code) = (maker.call(index), 1 + maker.below(9));
    format!(
        "    if (jump_depth < 16) {{\n        volatile u kept = r;\n        int code = setjmp(jumps[jump_depth++]);\n        if (code == 0) {{\n            r += {call};\n            if (jump_depth > 0) longjmp(jumps[jump_depth - 1], {code});\n        }}\n        jump_depth--;\n        r = kept + (u)code;\n    }}\n"
    )
}

fn sort(maker: &mut Maker, index: usize) -> String {
    let (size, call) = (4 + maker.below(20), maker.call(index));
    format!(
        "    u local[{size}];\n    for (u i = 0; i < {size}; i++) local[i] = numbers[(r + i) & 63] * 7 + r * i;\n    qsort(local, {size}, sizeof *local, compare{index});\n    r += local[0] * 3 + local[{size} - 1];\n    numbers[r & 63] = {call};\n"
    )
}

fn print(maker: &mut Maker, index: usize) -> String {
    let call = maker.call(index);
    format!(
        "    if (calls % 16 == 0) printf(\"f{index} %lu %05lx %s\\n\", r, r & 0xfffff, last);\n    snprintf(text, sizeof text, \"%lu-%s\", r, last);\n    r += strlen(text) + {call};\n"
    )
}

fn variadic(maker: &mut Maker, index: usize) -> String {
    let (call, other) = (maker.call(index), maker.call(index));
    format!(
        "    r = add_up(8, r, a, b, (u){index}, {call}, {other}, r >> 1, r >> 2);\n    if (r % 8 == 0) say(\"f{index} %lu %d %g\\n\", r, (int)(a & 7), (double)(b & 15) / 4);\n"
    )
}

fn by_pointer(maker: &mut Maker, index: usize) -> String {
    let limit = index.max(1);
    let pick = maker.below(limit);
    format!(
        "    function *chosen = table[r % {limit}], *fixed = f{pick};\n    if (chosen == fixed) r++;\n    if ({index} > 0) r += chosen(r, b) + fixed(b, r);\n    r += table[{index}] == f{index};\n"
    )
}

fn by_value(maker: &mut Maker, index: usize) -> String {
    let call = maker.call(index);
    format!(
        "    struct three t = {{r, a, 0.5}};\n    t = make{index}(make{index}(t, b), {call});\n    r = t.x + t.y + (u)t.z;\n"
    )
}

fn literal(maker: &mut Maker, index: usize) -> String {
    let call = maker.call(index);
    format!(
        "    static const char *const words[] = {{\"alpha{index}\", \"beta{index}\", \"gamma{index}\"}};\n    static const unsigned char weights[] = {{3, 1, 4, 1, 5, 9, 2, 6}};\n    last = words[r % 3];\n    r += weights[r & 7] + (u)last[0] + {call};\n"
    )
}

fn switch(maker: &mut Maker, index: usize) -> String {
    let mut cases = String::new();
    for case in 0..7 {
        let (number, call) = (maker.below(10_000), maker.call(index));
        match case % 2 {
            0 => writeln!(cases, "    case {case}: r += {number}; break;"),
            _ => writeln!(cases, "    case {case}: r += {call}; break;"),
        }
        .unwrap();
    }
    format!("    switch (r % 9) {{\n{cases}    default: r ^= 0x55;\n    }}\n")
}

fn recursion(maker: &mut Maker, index: usize) -> String {
    let call = maker.call(index);
    format!("    if (a > 3) r += f{index}(a / 2, b + 1);\n    else r += {call};\n")
}

fn floating(maker: &mut Maker, index: usize) -> String {
    let (call, scale) = (maker.call(index), 1 + maker.below(40));
    format!(
        "    double d = (double)(r % 1000) / {scale} + 0.75;\n    for (int i = 0; i < 3; i++) d = d * 1.5 - (double)(a % 10);\n    long double wide = d;\n    r += (u)(long)(wide * 3) + {call};\n"
    )
}
