// An exception that nobody catches: the terminate handler runs, then SIGABRT.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

static void handler() {
    try { if (std::current_exception()) throw; } catch (std::exception &e) { std::printf("terminating for %s\n", e.what()); }
    std::fflush(stdout);
    std::abort();
}
static int deep(int n) { return n ? deep(n - 1) + 1 : throw std::runtime_error("nobody"); }

int main() {
    std::set_terminate(handler);
    std::atexit([] { std::puts("never"); });
    try { deep(2); } catch (std::runtime_error &) { std::puts("caught once"); }
    std::fflush(stdout);
    return deep(5);
}
