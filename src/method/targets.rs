//! ENDBR64: what processors that track indirect branches (Intel's IBT) want to find where one leads. On others it
//! does nothing.

use std::arch::x86_64::CpuidResult;
use std::fs;

/// The instruction.
pub(crate) const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Whether this process is run with that check: the processor has it, and the kernel has enabled it.
pub(crate) fn are_checked() -> bool {
    /// Leaf 7: CET_IBT.
    const IBT: u32 = 1 << 20;
    let CpuidResult { edx, .. } = super::resolve::cpuid(7);
    edx & IBT != 0 && is_enabled()
}

/// Whether the kernel says so of this thread. Where it does not know the question it does not check.
fn is_enabled() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    lists_ibt(&status)
}

fn lists_ibt(status: &str) -> bool {
    let features = status
        .lines()
        .find_map(|line| line.strip_prefix("x86_Thread_features:"));
    features.is_some_and(|features| features.split_ascii_whitespace().any(|f| f == "ibt"))
}

#[cfg(test)]
mod tests {
    use super::lists_ibt;

    #[test]
    fn what_the_kernel_lists() {
        assert!(lists_ibt(
            "Name:\tx\nx86_Thread_features:\tshstk ibt\nThreads:\t1\n"
        ));
        assert!(!lists_ibt(
            "x86_Thread_features:\tshstk wrss\nx86_Thread_features_locked:\tibt\n"
        ));
        assert!(!lists_ibt("x86_Thread_features:\t\n"));
        assert!(!lists_ibt("Name:\tibt\n"));
    }
}
