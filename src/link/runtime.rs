//! The functions that code generation calls of its own accord.
//!
//! A copy of a struct becomes `memcpy`, a 128-bit division `__udivti3`, a
//! rounding `floor`, a conversion of half precision `__truncdfhf2`: nobody wrote
//! these calls, so nobody can be asked to import them. They are known here, by
//! name, and nothing else of the process is: what a program calls by intent comes
//! from its embedder. For that reason there is no `puts` or `calloc`, although
//! the optimiser may make them from `printf` and `malloc`; an embedder who lends
//! his own `printf` would see half of his output elsewhere.
//!
//! Most are linked with the library. Those that not every version of glibc and
//! libgcc has are looked for once in the running process, when the first name
//! is asked for that is not of the others.

use std::ffi::CString;
use std::sync::OnceLock;

/// Declares functions and the table of their names and addresses. Their types
/// do not matter: they are never called from here.
macro_rules! linked {
    ($($name:ident,)*) => {
        unsafe extern "C" {
            $(fn $name();)*
        }
        static LINKED: &[(&str, unsafe extern "C" fn())] = &[$((stringify!($name), $name),)*];
    };
}

// Sorted.
linked! {
    _Unwind_Resume, __stack_chk_fail, acos, acosf, acosh, acoshf, acoshl, acosl, asin, asinf,
    asinh, asinhf, asinhl, asinl, atan, atan2, atan2f, atan2l, atanf, atanh, atanhf, atanhl,
    atanl, bcmp, cbrt, cbrtf, cbrtl, ceil, ceilf, ceill, copysign, copysignf, copysignl, cos,
    cosf, cosh, coshf, coshl, cosl, erf, erfc, erfcf, erfcl, erff, erfl, exp, exp2, exp2f,
    exp2l, expf, expl, expm1, expm1f, expm1l, fabs, fabsf, fabsl, fdim, fdimf, fdiml, floor,
    floorf, floorl, fma, fmaf, fmal, fmax, fmaxf, fmaxl, fmin, fminf, fminl, fmod, fmodf,
    fmodl, frexp, frexpf, frexpl, hypot, hypotf, hypotl, ldexp, ldexpf, ldexpl, lgamma,
    lgammaf, lgammal, llrint, llrintf, llrintl, llround, llroundf, llroundl, log, log10,
    log10f, log10l, log1p, log1pf, log1pl, log2, log2f, log2l, logb, logbf, logbl, logf, logl,
    lrint, lrintf, lrintl, lround, lroundf, lroundl, memchr, memcmp, memcpy, memmove, mempcpy,
    memset, modf, modff, modfl, nearbyint, nearbyintf, nearbyintl, nextafter, nextafterf,
    nextafterl, pow, powf, powl, remainder, remainderf, remainderl, rint, rintf, rintl, round,
    roundf, roundl, scalbn, scalbnf, scalbnl, sin, sinf, sinh, sinhf, sinhl, sinl, sqrt, sqrtf,
    sqrtl, stpcpy, stpncpy, strcat, strchr, strcmp, strcpy, strcspn, strlen, strncat, strncmp,
    strncpy, strnlen, strpbrk, strrchr, strspn, strstr, tan, tanf, tanh, tanhf, tanhl, tanl,
    tgamma, tgammaf, tgammal, trunc, truncf, truncl, wcslen,
}

/// Names that may or may not exist. Sorted.
static SOUGHT: &[&str] = &[
    "__absvti2",
    "__addtf3",
    "__addvti3",
    "__ashlti3",
    "__ashrti3",
    "__bswapdi2",
    "__bswapsi2",
    "__clzdi2",
    "__clzti2",
    "__cmpti2",
    "__ctzdi2",
    "__ctzti2",
    "__divdc3",
    "__divhc3",
    "__divmodti4",
    "__divsc3",
    "__divtc3",
    "__divtf3",
    "__divti3",
    "__divxc3",
    "__eqhf2",
    "__eqtf2",
    "__extendbfsf2",
    "__extenddftf2",
    "__extenddfxf2",
    "__extendhfdf2",
    "__extendhfsf2",
    "__extendhftf2",
    "__extendhfxf2",
    "__extendsfdf2",
    "__extendsftf2",
    "__extendsfxf2",
    "__extendxftf2",
    "__ffsti2",
    "__fixdfdi",
    "__fixdfsi",
    "__fixdfti",
    "__fixhfdi",
    "__fixhfsi",
    "__fixhfti",
    "__fixsfdi",
    "__fixsfsi",
    "__fixsfti",
    "__fixtfdi",
    "__fixtfsi",
    "__fixtfti",
    "__fixunsdfdi",
    "__fixunsdfsi",
    "__fixunsdfti",
    "__fixunshfdi",
    "__fixunshfsi",
    "__fixunshfti",
    "__fixunssfdi",
    "__fixunssfsi",
    "__fixunssfti",
    "__fixunstfdi",
    "__fixunstfsi",
    "__fixunstfti",
    "__fixunsxfdi",
    "__fixunsxfsi",
    "__fixunsxfti",
    "__fixxfdi",
    "__fixxfsi",
    "__fixxfti",
    "__floatdidf",
    "__floatdihf",
    "__floatdisf",
    "__floatditf",
    "__floatdixf",
    "__floatsidf",
    "__floatsihf",
    "__floatsisf",
    "__floatsitf",
    "__floatsixf",
    "__floattidf",
    "__floattihf",
    "__floattisf",
    "__floattitf",
    "__floattixf",
    "__floatundidf",
    "__floatundihf",
    "__floatundisf",
    "__floatunditf",
    "__floatundixf",
    "__floatunsidf",
    "__floatunsihf",
    "__floatunsisf",
    "__floatunsitf",
    "__floatunsixf",
    "__floatuntidf",
    "__floatuntihf",
    "__floatuntisf",
    "__floatuntitf",
    "__floatuntixf",
    "__gehf2",
    "__getf2",
    "__gnu_f2h_ieee",
    "__gnu_h2f_ieee",
    "__gthf2",
    "__gttf2",
    "__lehf2",
    "__letf2",
    "__lshrti3",
    "__lthf2",
    "__lttf2",
    "__modti3",
    "__muldc3",
    "__mulhc3",
    "__mulodi4",
    "__muloti4",
    "__mulsc3",
    "__multc3",
    "__multf3",
    "__multi3",
    "__mulvti3",
    "__mulxc3",
    "__negtf2",
    "__negti2",
    "__nehf2",
    "__netf2",
    "__paritydi2",
    "__paritysi2",
    "__parityti2",
    "__popcountdi2",
    "__popcountsi2",
    "__popcountti2",
    "__powidf2",
    "__powisf2",
    "__powitf2",
    "__powixf2",
    "__subtf3",
    "__subvti3",
    "__truncdfbf2",
    "__truncdfhf2",
    "__truncdfsf2",
    "__trunchfbf2",
    "__truncsfbf2",
    "__truncsfhf2",
    "__trunctfbf2",
    "__trunctfdf2",
    "__trunctfhf2",
    "__trunctfsf2",
    "__trunctfxf2",
    "__truncxfbf2",
    "__truncxfdf2",
    "__truncxfhf2",
    "__truncxfsf2",
    "__ucmpti2",
    "__udivmodti4",
    "__udivti3",
    "__umodti3",
    "__unordhf2",
    "__unordtf2",
    "acosf128",
    "acospi",
    "acospif",
    "acospil",
    "asinf128",
    "asinpi",
    "asinpif",
    "asinpil",
    "atan2f128",
    "atanf128",
    "atanpi",
    "atanpif",
    "atanpil",
    "ceilf128",
    "copysignf128",
    "cosf128",
    "coshf128",
    "cospi",
    "cospif",
    "cospil",
    "exp10",
    "exp10f",
    "exp10f128",
    "exp10l",
    "exp2f128",
    "expf128",
    "fabsf128",
    "floorf128",
    "fmaf128",
    "fmaxf128",
    "fmaximum",
    "fmaximum_num",
    "fmaximum_numf",
    "fmaximum_numl",
    "fmaximumf",
    "fmaximuml",
    "fminf128",
    "fminimum",
    "fminimum_num",
    "fminimum_numf",
    "fminimum_numl",
    "fminimumf",
    "fminimuml",
    "fmodf128",
    "frexpf128",
    "ldexpf128",
    "llrintf128",
    "llroundf128",
    "log10f128",
    "log2f128",
    "logf128",
    "lrintf128",
    "lroundf128",
    "modff128",
    "nearbyintf128",
    "powf128",
    "rintf128",
    "roundeven",
    "roundevenf",
    "roundevenf128",
    "roundevenl",
    "roundf128",
    "sincos",
    "sincosf",
    "sincosf128",
    "sincosl",
    "sinf128",
    "sinhf128",
    "sinpi",
    "sinpif",
    "sinpil",
    "sqrtf128",
    "tanf128",
    "tanhf128",
    "tanpi",
    "tanpif",
    "tanpil",
    "truncf128",
];

/// The address of a function that code generation may call.
pub(crate) fn lookup(name: &str) -> Option<*const ()> {
    if let Ok(index) = LINKED.binary_search_by(|(linked, _)| (*linked).cmp(name)) {
        return Some(LINKED[index].1 as *const ());
    }
    let index = SOUGHT.binary_search(&name).ok()?;
    let address = *found().get(index)?;
    (address != 0).then_some(address as *const ())
}

/// The addresses of [`SOUGHT`], 0 for what there is not.
fn found() -> &'static [usize] {
    static FOUND: OnceLock<Vec<usize>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let find = |name: &&str| {
            let Ok(name) = CString::new(*name) else {
                return 0;
            };
            // SAFETY: the name is a string of C, and looking runs nothing.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            address as usize
        };
        SOUGHT.iter().map(find).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::{LINKED, SOUGHT, lookup};

    #[test]
    fn tables_are_sorted() {
        assert!(LINKED.is_sorted_by(|a, b| a.0 < b.0));
        assert!(SOUGHT.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_name_is_found_or_is_not_there() {
        for (name, address) in LINKED {
            assert_eq!(lookup(name), Some(*address as *const ()));
        }
        // What libgcc has had for as long as it has been on this processor.
        for name in [
            "__udivti3",
            "__modti3",
            "__fixunsdfti",
            "__floattisf",
            "__addtf3",
        ] {
            assert!(lookup(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_rest_of_the_process_is_not_searched() {
        for name in ["malloc", "puts", "getpid", "", "memcpy2", "zzz"] {
            assert_eq!(lookup(name), None);
        }
    }

    #[test]
    fn names_lead_to_the_functions() {
        let sqrt = lookup("sqrt").expect("in libm");
        // SAFETY: the C standard gives it this type.
        let sqrt = unsafe { std::mem::transmute::<*const (), extern "C" fn(f64) -> f64>(sqrt) };
        assert_eq!(sqrt(2.25), 1.5);
        assert_eq!(lookup("memcpy"), Some(libc::memcpy as *const ()));
    }
}
