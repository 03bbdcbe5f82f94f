// An exception that meets noexcept ends in terminate, by SIGABRT.
#include <cstdio>

static int inner(int x) { if (x > 1) throw x; return x; }
static int promise(int x) noexcept { return inner(x) + 1; }

int main() {
    for (int i = 0; i < 5; i++) {
        try { std::printf("%d\n", promise(i)); } catch (...) { std::puts("not here"); }
        std::fflush(stdout);
    }
    return 0;
}
