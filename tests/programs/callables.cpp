// std::function, bind, member pointers, virtual calls in closures, a variant visited, moved-only captures.
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

struct base { virtual int run(int x) const { return x; } virtual ~base() = default; };
struct adds : base { int n; explicit adds(int n) : n(n) {} int run(int x) const override { return x + n; } };
struct machine { int total = 0; int feed(int x) { return total += x; } static int negate(int x) { return -x; } };
static std::function<int(int)> compose(std::function<int(int)> f, std::function<int(int)> g) { return [f, g](int x) { return g(f(x)); }; }
template <class... F> struct overloaded : F... { using F::operator()...; };

int main() {
    machine m;
    std::vector<std::function<int(int)>> all{machine::negate, [](int x) { return x * x; }, std::bind(&machine::feed, &m, std::placeholders::_1)};
    auto b = std::make_shared<adds>(100);
    all.push_back([b](int x) { return b->run(x); });
    all.push_back(compose(all[1], all[3]));
    for (int i = 0; i < 10; i++) std::printf("%d ", all[static_cast<std::size_t>(i) % all.size()](i));
    std::variant<int, double, std::string> values[] = {7, 2.5, std::string("text")};
    for (auto &v : values) std::printf("%g ", std::visit(overloaded{[](int i) { return i * 2.0; }, [](double d) { return d; }, [](const std::string &s) { return static_cast<double>(s.size()); }}, v));
    auto owner = [p = std::make_unique<adds>(3)](int x) mutable { p->n++; return p->run(x); };
    std::printf("%d %d\n", owner(1), owner(1));
    try { std::function<int(int)>()(1); } catch (const std::bad_function_call &) { std::puts("empty"); }
    return static_cast<int>(b.use_count());
}
