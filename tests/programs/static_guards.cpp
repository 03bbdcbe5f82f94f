// Static locals made once: recursively dependent, by an initialiser that throws first, in templates, by many threads.
#include <atomic>
#include <cstdio>
#include <thread>

static std::atomic<int> made{0};
struct counted { int value; explicit counted(int v) : value(v) { made++; } };
static int attempts;
static counted &unlucky() { static counted c([] { if (++attempts < 3) throw attempts; return attempts * 10; }()); return c; }
static counted &base() { static counted c(5); return c; }
static counted &dependent() { static counted c(base().value + 1); return c; }
template <int N> static counted &each() { static counted c(N + dependent().value); return c; }
static counted &contested() { static counted c([] { std::this_thread::yield(); return 77; }()); return c; }

int main() {
    for (int i = 0; i < 4; i++) try { std::printf("%d ", unlucky().value); } catch (int n) { std::printf("thrown %d ", n); }
    std::printf("%d %d %d %d\n", each<1>().value, each<2>().value, each<1>().value, made.load());
    std::atomic<int> sum{0};
    std::thread threads[4];
    for (auto &t : threads) t = std::thread([&sum] { for (int i = 0; i < 50; i++) sum += contested().value; });
    for (auto &t : threads) t.join();
    std::printf("%d %d\n", sum.load(), made.load());
    return &contested() == &contested();
}
