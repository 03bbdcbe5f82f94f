//! Lua, built by clang from the sources that come with the dev-dependency `lua-src`: an interpreter of 30,000 lines
//! of C, in one translation unit with the program around it.

use crate::harness::{compile, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter at one of clang's levels.
pub struct Interpreter {
    /// A native executable.
    pub native: PathBuf,
    /// The same as bitcode.
    pub bitcode: PathBuf,
}

/// Builds the interpreter, at a level as clang writes it.
pub fn build(clang: &str, level: &str) -> Interpreter {
    let folder = scratch("lua");
    let include = format!("-I{}", sources().display());
    let native = folder.join(format!("lua{level}"));
    let bitcode = folder.join(format!("lua{level}.bc"));
    let program = folder_of_tests().join("main.c");
    compile(clang, &program, &native, &[level, &include]);
    compile(
        clang,
        &program,
        &bitcode,
        &[level, &include, "-c", "-emit-llvm"],
    );
    Interpreter { native, bitcode }
}

/// The scripts that are run in it, by path, in a fixed order.
pub fn scripts() -> Vec<PathBuf> {
    let folder = folder_of_tests().join("scripts");
    let entries = fs::read_dir(folder).expect("the scripts");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a script").path())
        .collect();
    paths.sort();
    paths
}

fn folder_of_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lua")
}

/// Where Lua's sources are: cargo knows where it keeps the crate, and the crate holds a folder for each of Lua's
/// versions. The newest has the most lines.
fn sources() -> PathBuf {
    let package = package("lua-src");
    let versions = fs::read_dir(&package).expect("the crate's folder");
    let newest = versions
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("lvm.c").exists())
        .max();
    newest.unwrap_or_else(|| panic!("{} holds no Lua", package.display()))
}

/// The folder of a package that this one depends on.
fn package(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // The packages of other systems need not have been downloaded.
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .args(["x86_64-unknown-linux-gnu", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let found = packages.iter().find(|package| package["name"] == name);
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    let folder = manifest.and_then(|path| Path::new(path).parent());
    folder.expect("a dependency has a manifest").to_owned()
}
