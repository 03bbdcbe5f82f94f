//! What the fuzzer has found worth keeping, once more, by any toolchain: see `fuzz/`, and `make fuzz`. Whatever it ever
//! crashed on is among it. (Object files: `link::tests::fuzz`; programs: `run_ir_damaged`.)

#[path = "../fuzz/bodies/cache.rs"]
mod cache;
mod support;

use std::path::Path;

/// All files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(target)).expect("the corpus");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a file of the corpus");
            (path.display().to_string(), bytes)
        })
        .collect();
    files.sort();
    assert!(files.len() > 5, "{}", files.len());
    files
}

#[test]
fn sequences_of_operations() {
    for (name, bytes) in corpus("cache") {
        // Of the file that fails the name is the last line.
        eprintln!("{name}");
        cache::run(&bytes);
    }
}

/// The same of numbers that only look random: a fuzzer's beginning, for where there is none.
#[test]
fn sequences_of_random_operations() {
    let many = if std::env::var_os("INKPOT_SOAK").is_some() {
        20_000
    } else {
        60
    };
    for seed in 0..many {
        eprintln!("seed {seed}");
        let mut random = support::synthetic::Random::new(seed);
        let length = random.below(150);
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        cache::run(&bytes);
    }
}
