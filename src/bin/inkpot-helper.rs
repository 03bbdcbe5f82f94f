//! Compiles for a cache with `Isolation::binary`, in a process of its own. Caches start it; by itself it
//! does nothing.

fn main() {
    inkpot::helper::run_if_helper();
    eprintln!("inkpot-helper is started by caches that compile in processes of their own");
    std::process::exit(2);
}
