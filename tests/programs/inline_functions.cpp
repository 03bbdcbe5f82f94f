// Inline functions, variables and lambdas: linkonce symbols with static variables, addresses, default arguments.
extern "C" int printf(const char *, ...);

inline int shared = 5;
inline int counter() { static int n = 10; return n++; }
inline int with_default(int a, int b = counter()) { return a * 100 + b; }
namespace one { inline namespace two { inline int f() { return shared += 1; } } }
struct local { static inline int made = 0; int id = ++made; local() = default; local(const local &o) : id(o.id * 10) { made++; } int get() const { return id; } };
static local copy(local l) { return l; }
constexpr int power(int b, int n) { return n ? b * power(b, n - 1) : 1; }
using function = int (*)(int);
static function pick(int which) {
    switch (which) {
    case 0: return [](int x) { return x + shared; };
    case 1: return [](int x) { static int sum = 0; return sum += x; };
    default: return [](int x) { return power(x, 2); };
    }
}
template <class F> static int apply(F f, int n) { int r = 0; for (int i = 0; i < n; i++) r = f(r, i); return r; }

int main() {
    int calls = 0;
    for (int i = 0; i < 4; i++) printf("%d %d %d %d %d\n", with_default(i), one::f(), pick(i % 3)(i), pick(1)(i), apply([&calls, i](int r, int k) { calls++; return r * i + k; }, 5));
    local a, b = a, c = copy(b);
    printf("%d %d %d %d %d\n", a.get(), b.get(), c.get(), local::made, calls);
    return pick(0) == pick(0);
}
