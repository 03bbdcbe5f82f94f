//! The own executable as the helper, and how helpers end: with the cache, with the process however that ends,
//! and never for a forked child.
//!
//! This program has a `main` of its own, which is what an embedder does. Each scene is played in a process of
//! its own; the number of each helper is written to standard output, and looked for afterwards.

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inkpot::{Cache, Error, HelperFailure, Isolation, helper};
use support::helpers::{ADD, COLLECTED, ENDLESS, helpers_of, zombies};
use support::texts::{Name, Texts, text};
use support::{Unary, wait_until};

/// How the process of a scene ends.
enum End {
    Code(i32),
    Signal(i32),
}

struct Scene {
    name: &'static str,
    play: fn(),
    end: End,
}

const fn scene(name: &'static str, play: fn()) -> Scene {
    let end = End::Code(0);
    Scene { name, play, end }
}

const SCENES: [Scene; 15] = [
    scene("compiles", compiles),
    scene("deleted", deleted),
    scene("dropped while a helper compiles", dropped),
    scene("many caches", many),
    scene("children are ignored", ignored),
    scene("children are waited for by somebody else", reaped),
    scene("no signal of a pipe", pipes),
    scene("a group's signal", group),
    scene("nothing of the host's stays open", inherited),
    scene("blocked signals, and another directory", elsewhere),
    scene("a forked child ends", forked),
    scene("stopped for longer than the limit", stopped),
    Scene {
        name: "exits while a helper compiles",
        play: exits,
        end: End::Code(7),
    },
    Scene {
        name: "killed while a helper compiles",
        play: killed,
        end: End::Signal(libc::SIGKILL),
    },
    Scene {
        name: "killed while a forked child lives",
        play: outlived,
        end: End::Signal(libc::SIGKILL),
    },
];

fn main() {
    helper::run_if_helper();
    let mut arguments = std::env::args().skip(1);
    let asked = arguments.next();
    if asked.as_deref() == Some("--scene") {
        let name = arguments.next().expect("the name of a scene");
        let scene = SCENES.iter().find(|scene| scene.name == name);
        return (scene.expect("a scene").play)();
    }
    // As the harness does: a part of a name selects.
    let wanted = asked.filter(|a| !a.starts_with("--")).unwrap_or_default();
    for scene in SCENES.iter().filter(|scene| scene.name.contains(&wanted)) {
        let started = Instant::now();
        play(scene);
        println!("{}: ok in {:?}", scene.name, started.elapsed());
    }
}

fn play(scene: &Scene) {
    let name = scene.name;
    // One scene deletes its program.
    let own = std::env::current_exe().expect("a path");
    let folder = own.parent().expect("a folder");
    let copy = folder.join(format!("isolation-scene-{}", std::process::id()));
    std::fs::copy(&own, &copy).expect("a copy");
    let mut child = Command::new(&copy)
        .args(["--scene", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if started.elapsed() > Duration::from_secs(40) {
            let _ = child.kill();
            panic!("{name}: it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = std::fs::remove_file(&copy);
    let expected = match scene.end {
        End::Code(code) => status.code() == Some(code),
        End::Signal(signal) => {
            std::os::unix::process::ExitStatusExt::signal(&status) == Some(signal)
        }
    };
    assert!(expected, "{name}: {status}");
    let mut output = child.stdout.take().expect("piped");
    let mut said = Vec::new();
    // A forked child still has it open: so only what is there already.
    let mut ready = [0; 4096];
    let many = output.read(&mut ready).expect("readable");
    said.extend(&ready[..many]);
    let said = String::from_utf8_lossy(&said).into_owned();
    let helpers: Vec<i32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(!helpers.is_empty(), "{name}: {said}");
    wait_until("no helper is left", || {
        helpers.iter().all(|pid| !is_helper(*pid))
    });
}

fn is_helper(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"inkpot-helper: ")
}

fn cache(name: &str, workers: usize) -> Cache<Name> {
    let texts = Texts::new([("add", ADD), ("collected", COLLECTED), ("endless", ENDLESS)]);
    let cache = Cache::builder(texts)
        .name(name)
        .workers(workers)
        .isolation(Isolation::own_executable())
        .build()
        .expect("a cache");
    assert_eq!(helpers_of(name).len(), workers);
    tell(name);
    cache
}

/// Writes the numbers of the helpers that there are now.
fn tell(name: &str) {
    let mut out = std::io::stdout();
    for helper in helpers_of(name) {
        writeln!(out, "{helper}").expect("it is read");
    }
    out.flush().expect("it is read");
}

fn call(cache: &Cache<Name>, name: &str) -> Result<i64, Error> {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let method = text::<Unary>(cache, name);
    // SAFETY: all texts here have this type.
    method.get(&mut guard).map(|f| unsafe { f.call(100) })
}

/// The failure of the method that makes LLVM abort.
fn abort(cache: &Cache<Name>) -> HelperFailure {
    match call(cache, "collected") {
        Err(Error::Isolated { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

/// A helper compiles what takes it minutes.
fn keep_busy(cache: &Cache<Name>, name: &str) {
    text::<Unary>(cache, "endless").request().expect("queued");
    let [helper] = helpers_of(name).try_into().expect("one");
    let ticks = || ticks(helper).expect("it lives");
    let before = ticks();
    wait_until("the helper compiles", || ticks() > before + 10);
}

/// The time that a process ran, in hundredths of a second.
fn ticks(process: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = status.rsplit_once(") ")?;
    let ticks = rest.split(' ').nth(11).expect("the time that it ran");
    Some(ticks.parse().expect("a number"))
}

#[track_caller]
fn none_is_left(name: &str) {
    assert_eq!(helpers_of(name), []);
    assert_eq!(zombies(), 0);
}

fn compiles() {
    let cache = cache("compiles", 1);
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    assert!(matches!(
        abort(&cache),
        HelperFailure::Died {
            status: Some(_),
            ..
        }
    ));
    tell("compiles");
    assert_eq!(call(&cache, "add#2").unwrap(), 102);
    let s = cache.statistics();
    assert_eq!(
        s.helpers_failed, 2,
        "as the second of a helper's, and as the first"
    );
    assert_eq!(s.helpers_started, 3);
    drop(cache);
    none_is_left("compiles");
}

/// The file has gone, and another has its name.
fn deleted() {
    let own = std::env::current_exe().expect("a path");
    std::fs::remove_file(&own).expect("ours");
    std::fs::copy(Path::new("/bin/false"), &own).expect("a copy");
    let cache = cache("deleted", 1);
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    abort(&cache);
    tell("deleted");
    assert_eq!(call(&cache, "add#2").unwrap(), 102);
}

fn dropped() {
    let cache = cache("dropped", 1);
    keep_busy(&cache, "dropped");
    let waits = std::thread::spawn({
        let cache = cache.clone();
        move || call(&cache, "add#1")
    });
    // Who waits keeps the cache: what it waits for comes first, or never.
    std::thread::sleep(Duration::from_millis(50));
    drop(cache);
    // The endless one is tried a second time.
    let mut killed = Vec::new();
    while killed.len() < 2 {
        let busy = |helper: &i32| ticks(*helper).is_some_and(|ticks| ticks > 100);
        for helper in helpers_of("dropped").into_iter().filter(busy) {
            // SAFETY: a helper of ours.
            unsafe { libc::kill(helper, libc::SIGKILL) };
            if !killed.contains(&helper) {
                killed.push(helper);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(waits.join().unwrap().unwrap(), 101);
    none_is_left("dropped");

    let started = Instant::now();
    let cache = self::cache("dropped again", 1);
    keep_busy(&cache, "dropped again");
    drop(cache);
    none_is_left("dropped again");
    assert!(started.elapsed() < Duration::from_secs(15));
}

fn many() {
    let names: Vec<_> = (0..3).map(|n| format!("cache {n}")).collect();
    let caches: Vec<_> = names.iter().map(|name| cache(name, 2)).collect();
    std::thread::scope(|threads| {
        for (c, cache) in caches.iter().enumerate() {
            for t in 0..2 {
                threads.spawn(move || {
                    for n in 0..10 {
                        if n == 5 + c {
                            abort(cache);
                        }
                        let n = 100 * t + n;
                        assert_eq!(call(cache, &format!("add#{n}")).unwrap(), 100 + n as i64);
                    }
                });
            }
        }
    });
    names.iter().for_each(|name| tell(name));
    drop(caches);
    names.iter().for_each(|name| none_is_left(name));
}

/// The program does not want to know of its children: they vanish when they end.
fn ignored() {
    // SAFETY: no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let cache = cache("ignored", 1);
    for n in 0..3 {
        assert_eq!(call(&cache, &format!("add#{n}")).unwrap(), 100 + n);
        match abort(&cache) {
            HelperFailure::Died { status, said } => {
                assert_eq!(status, None);
                assert!(said.contains("unsupported GC"), "{said}");
            }
            other => panic!("{other}"),
        }
        tell("ignored");
    }
    drop(cache);
    none_is_left("ignored");
}

/// The program waits for all children, whosever they are.
fn reaped() {
    std::thread::spawn(|| {
        loop {
            // SAFETY: no preconditions.
            if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    let cache = cache("reaped", 1);
    for n in 0..3 {
        assert_eq!(call(&cache, &format!("add#{n}")).unwrap(), 100 + n);
        assert!(matches!(abort(&cache), HelperFailure::Died { .. }));
        tell("reaped");
    }
    drop(cache);
    none_is_left("reaped");
}

/// Where nobody reads, to write is no reason to end.
fn pipes() {
    // SAFETY: no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let cache = cache("pipes", 1);
    // Of the death of one that had compiled before, nobody is to blame.
    assert_eq!(call(&cache, "add#100").unwrap(), 200);
    for n in 0..3 {
        let [helper] = helpers_of("pipes").try_into().expect("one");
        // SAFETY: a helper of ours.
        unsafe { libc::kill(helper, libc::SIGKILL) };
        assert_eq!(call(&cache, &format!("add#{n}")).unwrap(), 100 + n);
        tell("pipes");
    }
}

/// As a terminal sends it to all that runs there.
fn group() {
    // SAFETY: no handler; the group is this process's own.
    unsafe {
        libc::setpgid(0, 0);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
    }
    let cache = cache("group", 1);
    let before = helpers_of("group");
    // SAFETY: nobody else is in this group.
    unsafe { libc::kill(0, libc::SIGINT) };
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    assert_eq!(helpers_of("group"), before);
}

/// What every program that the host executes would get, a helper has not.
fn inherited() {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written, and are this function's.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let cache = cache("inherited", 1);
    let mut byte = 0u8;
    // SAFETY: as above; the byte may be written.
    let read = unsafe {
        libc::close(ends[1]);
        libc::alarm(20);
        libc::read(ends[0], (&raw mut byte).cast(), 1)
    };
    assert_eq!(read, 0, "nobody can write any more");
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    assert_eq!(helpers_of("inherited").len(), 1);
}

/// A helper has its own idea of signals, and is in nobody's way.
fn elsewhere() {
    let folder = std::env::temp_dir().join(format!("inkpot-own-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    std::env::set_current_dir(&folder).expect("it is there");
    // SAFETY: the set lives through the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
    let cache = cache("away", 1);
    let [helper] = helpers_of("away").try_into().expect("one");
    let cwd = std::fs::read_link(format!("/proc/{helper}/cwd")).expect("it has one");
    assert_eq!(cwd, Path::new("/"));
    let status = std::fs::read_to_string(format!("/proc/{helper}/status")).expect("it lives");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    std::fs::remove_dir(&folder).expect("it is empty");
    assert!(matches!(abort(&cache), HelperFailure::Died { .. }));
    tell("away");
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
}

/// The child gives back all it has, and exits by `exit`: that ends no helper of the parent's.
fn forked() {
    let cache = cache("forked", 1);
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    let before = helpers_of("forked");
    for by_exit in [false, true] {
        let child = support::child::fork(by_exit, || {
            // SAFETY: nothing is called.
            let failed = unsafe { cache.method::<Unary>(&"add#2".to_owned()) }.err();
            // SAFETY: the child ends before this goes out of scope.
            drop(unsafe { std::ptr::read(&cache) });
            i32::from(!matches!(failed, Some(Error::Forked)))
        });
        child.expect_code(0);
    }
    // A cache of the child's own has helpers of its own.
    let child = support::child::fork(true, || {
        let own = self::cache("of the child", 1);
        assert_eq!(call(&own, "add#3").unwrap(), 103);
        assert!(matches!(abort(&own), HelperFailure::Died { .. }));
        tell("of the child");
        drop(own);
        none_is_left("of the child");
        0
    });
    child.expect_code(0);
    assert_eq!(call(&cache, "add#2").unwrap(), 102);
    assert_eq!(helpers_of("forked"), before);
    assert_eq!(cache.statistics().helpers_started, 1);
}

/// The process is stopped while its helper compiles, and the helper too: that is not the method's time.
fn stopped() {
    const LIMIT: Duration = Duration::from_secs(1);
    let texts = Texts::new([("add", ADD)]);
    let cache = Cache::builder(texts)
        .name("stopped")
        .isolation(Isolation::own_executable().time_limit(LIMIT))
        .build()
        .expect("a cache");
    tell("stopped");
    let [helper] = helpers_of("stopped").try_into().expect("one");
    // SAFETY: our helper's number.
    assert_eq!(unsafe { libc::kill(helper, libc::SIGSTOP) }, 0);
    let host = std::process::id();
    let script = format!(
        "sleep 0.2; kill -STOP {host}; sleep 2; kill -CONT {host}; sleep 0.1; kill -CONT {helper}"
    );
    let mut shell = Command::new("sh").args(["-c", &script]).spawn();
    let started = Instant::now();
    assert_eq!(call(&cache, "add#1").unwrap(), 101);
    assert!(started.elapsed() > 2 * LIMIT, "it was not stopped");
    let shell = shell.as_mut().expect("it runs").wait();
    assert!(shell.expect("ours").success());
    assert_eq!(cache.statistics().helpers_started, 1);
}

fn exits() {
    let cache = cache("exits", 1);
    keep_busy(&cache, "exits");
    support::child::exit(7);
}

fn killed() {
    let cache = cache("killed", 1);
    keep_busy(&cache, "killed");
    // SAFETY: ends the process.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// The forked child has a copy of the socket, so that it stays open.
fn outlived() {
    let cache = cache("outlived", 1);
    keep_busy(&cache, "outlived");
    let _ = support::child::fork(false, || {
        println!("left {}", std::process::id());
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    std::thread::sleep(Duration::from_millis(100));
    // SAFETY: ends the process.
    unsafe { libc::raise(libc::SIGKILL) };
}
