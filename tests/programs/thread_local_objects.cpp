// thread_local objects: made when first used by a thread, destroyed at its end, dynamic initialisers, in classes.
#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

static std::atomic<int> made{0}, gone{0}, weight{0};
struct noisy { int id; noisy() : id(++made) {} ~noisy() { gone++; weight += id; } };
static thread_local noisy mine;
static thread_local std::string text = std::string("start") + std::to_string(40 + 2);
struct holder { static thread_local int count; };
thread_local int holder::count = 7;
static int use(int n) { text += std::to_string(n); holder::count += n; return mine.id; }
static int in_function() { static thread_local noisy other; return other.id > 0; }

int main() {
    int ids = 0;
    for (int i = 0; i < 4; i++) {
        std::thread t([i, &ids] { ids += use(i) * 100; if (i & 1) ids += in_function(); std::printf("%s %d\n", text.c_str(), holder::count); });
        t.join();
    }
    std::printf("%d %d %d %d\n", ids, made.load(), gone.load(), weight.load());
    use(9);
    std::printf("%s %d %d\n", text.c_str(), holder::count, gone.load());
    return made;
}
