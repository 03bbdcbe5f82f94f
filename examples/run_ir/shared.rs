//! What of libc's is one for the whole process, and how instances side by side get on with it.
//!
//! Random numbers and `strtok` are in such wide use that each instance gets its own. A program that uses anything else
//! of this kind is refused with `--threads`: alone it can run.

use crate::instance::{self, Instance};
use crate::ir::{self, Module};
use crate::normalise::LIBRARY;
use crate::process;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Names, and what instances would share.
const SHARED: [(&str, &str); 12] = [
    (
        "stdin getchar getchar_unlocked scanf vscanf gets __isoc99_scanf __isoc99_vscanf __isoc23_scanf \
         __isoc23_vscanf",
        "standard input",
    ),
    (
        "setvbuf setbuf setbuffer setlinebuf freopen freopen64",
        "the buffers of standard streams",
    ),
    (
        "_ZSt4cout _ZSt4cerr _ZSt4clog _ZSt3cin _ZSt5wcout _ZSt5wcerr _ZSt4wcin \
         _ZNSt8ios_base15sync_with_stdioEb",
        "the standard streams of C++",
    ),
    (
        "signal sigaction __sigaction bsd_signal ssignal",
        "signal handlers",
    ),
    (
        "alarm ualarm setitimer timer_create raise kill killpg sigprocmask sigqueue",
        "the process's signals",
    ),
    (
        "setenv putenv unsetenv clearenv environ __environ",
        "the environment",
    ),
    ("setlocale newlocale uselocale", "the locale"),
    (
        "chdir fchdir chroot umask setrlimit setrlimit64",
        "settings of the process",
    ),
    (
        "getopt getopt_long getopt_long_only optind optarg optopt opterr argp_parse",
        "the place in the arguments",
    ),
    (
        "drand48 erand48 lrand48 nrand48 mrand48 jrand48 srand48 seed48 lcong48 initstate setstate",
        "random numbers",
    ),
    (
        "localtime gmtime ctime asctime tmpnam ttyname getpwnam getpwuid getgrnam gethostbyname \
         strsignal ecvt fcvt hcreate hsearch hdestroy setmntent getmntent",
        "results in libc's own memory",
    ),
    (
        "execve execv execvp execl execlp execle posix_spawn vfork",
        "the process",
    ),
];

/// What keeps several instances of a program from running side by side, with the names that it uses of it.
pub fn between_instances(module: &Module<'_>) -> Vec<String> {
    let declared = |name: &&str| {
        ir::function(module, name)
            .or_else(|| ir::global(module, name))
            .is_some_and(|global| global.is_declaration() && global.is_used())
    };
    let reason = |(names, what): &(&str, &str)| {
        let used: Vec<_> = names.split_whitespace().filter(declared).collect();
        (!used.is_empty()).then(|| {
            let used = used.join(", ");
            format!("{what}, which instances side by side would share: {used}")
        })
    };
    // What the optimiser brings in has a name, and no instance.
    let defined = |name: &&str| {
        let function = ir::function(module, name);
        function.is_some_and(|function| !function.is_declaration())
    };
    let of_library: Vec<_> = LIBRARY.split_whitespace().filter(defined).collect();
    let own_library = (!of_library.is_empty()).then(|| {
        let names = of_library.join(", ");
        format!("functions of libc's names, which instances side by side would share: {names}")
    });
    SHARED
        .iter()
        .filter_map(reason)
        .chain(own_library)
        .collect()
}

/// An instance's own state.
#[derive(Default)]
struct Own {
    random: Random,
    /// Where `strtok` goes on: an address.
    rest: usize,
}

fn with_own<R>(f: impl FnOnce(&mut Own) -> R) -> R {
    static ALL: OnceLock<Mutex<HashMap<u32, Own>>> = OnceLock::new();
    let all = ALL.get_or_init(Mutex::default);
    let number = instance::current().map_or(0, |Instance { number, .. }| *number);
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    f(all.entry(number).or_default())
}

/// glibc's default generator: an additive feedback over 31 words.
struct Random {
    words: [i32; 31],
    at: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self::seeded(1)
    }
}

impl Random {
    /// Knuth's trinomial generator, seeded as glibc documents it (`random_r.c` describes the sequence).
    fn seeded(seed: c_uint) -> Self {
        let mut words = [0i32; 31];
        words[0] = if seed == 0 { 1 } else { seed as i32 };
        for i in 1..31 {
            // 16807 times the last, modulo 2^31 - 1.
            let word = 16807 * i64::from(words[i - 1]) % 0x7fff_ffff;
            words[i] = if word < 0 { word + 0x7fff_ffff } else { word } as i32;
        }
        let mut random = Self { words, at: 0 };
        for _ in 0..310 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> c_int {
        let front = (self.at + 3) % 31;
        let sum = self.words[front].wrapping_add(self.words[self.at]);
        self.words[front] = sum;
        self.at = (self.at + 1) % 31;
        (sum as u32 >> 1) as c_int
    }
}

extern "C" fn rand() -> c_int {
    with_own(|own| own.random.next())
}

extern "C" fn random() -> libc::c_long {
    libc::c_long::from(rand())
}

extern "C" fn srand(seed: c_uint) {
    with_own(|own| own.random = Random::seeded(seed));
}

/// # Safety
/// As for libc's.
unsafe extern "C" fn strtok(text: *mut c_char, delimiters: *const c_char) -> *mut c_char {
    let mut rest = with_own(|own| own.rest) as *mut c_char;
    // SAFETY: the caller's promise; the rest is of a text that was given before.
    let token = unsafe { libc::strtok_r(text, delimiters, &mut rest) };
    with_own(|own| own.rest = rest as usize);
    token
}

/// libc's `_exit`: ends the instance, and runs nothing.
extern "C" fn end_now(code: c_int) -> ! {
    process::end(code)
}

/// The functions that stand in for libc's where instances run side by side.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "rand" => rand as extern "C" fn() -> c_int as *const (),
        "random" => random as extern "C" fn() -> libc::c_long as *const (),
        "srand" | "srandom" => srand as extern "C" fn(c_uint) as *const (),
        "strtok" => strtok as *const (),
        "_exit" | "_Exit" => end_now as extern "C" fn(c_int) -> ! as *const (),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_libc() {
        for seed in [0, 1, 2, 42, 12345, u32::MAX] {
            let mut own = Random::seeded(seed);
            // SAFETY: no other test of this process draws random numbers.
            unsafe { libc::srand(seed) };
            for _ in 0..1000 {
                // SAFETY: as above.
                assert_eq!(own.next(), unsafe { libc::rand() }, "seed {seed}");
            }
        }
    }
}
