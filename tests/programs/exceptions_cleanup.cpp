// What is destroyed, and in which order, as an exception passes: locals, members, arrays, temporaries, half-made objects.
#include <cstdio>
#include <memory>
#include <new>

static int budget = 0, alive = 0;
struct noisy {
    const char *name;
    explicit noisy(const char *name) : name(name) { if (budget-- == 0) throw name; alive++; std::printf("+%s ", name); }
    noisy(const noisy &o) : noisy(o.name) {}
    ~noisy() { alive--; std::printf("-%s ", name); }
};
struct part { noisy a{"a"}, b{"b"}; };
struct whole : part { noisy c; std::unique_ptr<noisy> d; whole() try : c("c"), d(new noisy("d")) { noisy inside("inside"); } catch (const char *n) { std::printf("[%s] ", n); } };
struct pair { noisy list[3] = {noisy("x"), noisy("y"), noisy("z")}; };
static int take(noisy, noisy) { return 1; }
static int work(int n) {
    noisy outer("outer");
    for (int i = 0; i < 2; i++) { noisy loop("loop"); if (n == 2) { whole w; } if (n == 3) { pair p; } }
    return take(noisy("one"), noisy("two")) + (noisy("left"), n);
}
static int quiet() noexcept { try { throw 1; } catch (int) { return 1; } }

int main() {
    for (int n = 1; n < 4; n++)
        for (budget = 0; budget < 40;) {
            int limit = budget;
            try { std::printf("%d ", work(n)); std::printf("= done %d\n", alive); break; }
            catch (const char *name) { std::printf("! %s %d\n", name, alive); }
            budget = limit + 1;
        }
    return alive + quiet();
}
