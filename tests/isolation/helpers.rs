//! Programs that are no helpers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use inkpot::{Cache, Error, Isolation};

use super::{Texts, builder, isolation};
use crate::support::synthetic::Synthetic;

#[track_caller]
fn refused(program: impl AsRef<Path>, says: &str) {
    let started = Instant::now();
    let built = builder("refused", [])
        .isolation(Isolation::binary(program.as_ref()))
        .build();
    match built {
        Err(Error::NoHelper {
            program: named,
            problem,
        }) => {
            assert_eq!(Path::new(&named), program.as_ref());
            assert!(problem.contains(says), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_no_helper_is_refused() {
    refused("/nowhere/helper", "No such file");
    refused("/etc/passwd", "Permission denied");
    refused("/", "Permission denied");
    refused("/bin/true", "exit status: 0");
    refused("/bin/false", "exit status: 1");
    // It gives back what it got.
    refused("/bin/cat", "something else than that it is ready");
    refused("/bin/pwd", "it wrote \"/");
}

#[test]
fn a_script_that_executes_the_helper_is_one() {
    let directory = std::env::temp_dir().join(format!("inkpot-isolation-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = directory.join("helper");
    let write = |text: &str| {
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let helper = env!("CARGO_BIN_EXE_inkpot-helper");
    write(&format!(
        "#!/bin/bash\nexec -a 'inkpot-helper: script' {helper}\n"
    ));
    let cache = builder("script", [])
        .isolation(Isolation::binary(&script))
        .build()
        .unwrap();
    assert_eq!(super::call(&cache, "add#1").unwrap(), 101);
    // What cannot be started any more is an error for each method, and not tried for each half.
    drop(std::fs::remove_file(&script));
    let [process] = super::helpers_of("script").try_into().unwrap();
    super::signal(process, libc::SIGKILL);
    for outcome in super::together(&cache, &super::adds(9)[2..]) {
        let Err(Error::NoHelper { problem, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(problem.contains("No such file"), "{problem}");
    }
    write("#!/bin/sh\necho no >&2; exit 7\n");
    let failed = super::call(&cache, "add#20").unwrap_err().to_string();
    assert!(
        failed.contains("exit status: 7") && failed.contains("no"),
        "{failed}"
    );
    write(&format!(
        "#!/bin/bash\nexec -a 'inkpot-helper: script' {helper}\n"
    ));
    assert_eq!(super::call(&cache, "add#20").unwrap(), 120);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let wrong = |built: Result<_, Error>, says: &str| match built {
        Err(Error::Setting {
            setting: "isolation",
            problem,
        }) => assert!(problem.contains(says), "{problem}"),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("{says}"),
    };
    // This executable has a `main` of the test harness's.
    let own = builder("own", []).isolation(Isolation::own_executable());
    wrong(own.build().map(drop), "run_if_helper");
    let no_time = isolation().time_limit(Duration::ZERO);
    wrong(
        builder("no time", []).isolation(no_time).build().map(drop),
        "no time",
    );
    let other = Cache::with_backend(Synthetic::default()).isolation(isolation());
    wrong(other.build().map(drop), "LLVM");
}

#[test]
fn too_little_memory_is_told_at_once() {
    let little = isolation().memory_limit(1 << 20);
    let built = builder("little", []).isolation(little).build();
    let Err(Error::NoHelper { problem, .. }) = built else {
        panic!("{built:?}");
    };
    assert!(problem.contains("its memory ran out"), "{problem}");
}

#[test]
fn a_helper_says_what_it_is_to_who_calls_it() {
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_inkpot-helper"))
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("started by caches"));
}

#[test]
fn an_empty_front_end_ends_its_helpers_too() {
    let built = Cache::builder(Texts::new([]))
        .isolation(isolation())
        .name("empty")
        .build();
    drop(built.unwrap());
    assert_eq!(super::helpers_of("empty"), []);
}
