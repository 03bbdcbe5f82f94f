//! Helper processes, seen from outside, and methods for them.

/// `add#N`.
pub const ADD: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";

/// LLVM's verifier lets this pass, and its code generator ends the process.
pub const COLLECTED: &str = "define i64 @self(i64 %x) gc \"nobody's\" { ret i64 %x }";

/// Numbers of 65,536 bits are multiplied word by word: a million multiplications, for which LLVM takes
/// minutes, and memory without end.
pub const ENDLESS: &str = "define i64 @self(i64 %x) {
    %w = zext i64 %x to i65536
    %v = shl i65536 %w, %w
    %u = mul i65536 %v, %v
    %h = lshr i65536 %u, 5000
    %y = trunc i65536 %h to i64
    ret i64 %y
}";

/// The processes that were started for caches of this name by this process.
pub fn helpers_of(name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_ours = parent_and_state(pid).is_some_and(|(parent, _)| parent == std::process::id());
        if is_ours && line == format!("inkpot-helper: {name}\0").as_bytes() {
            found.push(pid);
        }
    }
    found
}

fn parent_and_state(pid: i32) -> Option<(u32, char)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = status.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Children that have ended, and that nobody has waited for.
pub fn zombies() -> usize {
    let mine = Some((std::process::id(), 'Z'));
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| parent_and_state(*pid) == mine)
        .count()
}
