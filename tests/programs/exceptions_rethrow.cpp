// Thrown on: rethrown, replaced, nested in handlers, carried by exception_ptr and nested_exception, counted.
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

static int inner(int n) { try { if (n % 3 == 0) throw n; if (n % 3 == 1) throw std::runtime_error("inner"); return n; } catch (int i) { if (i) throw; return -i; } }
static int middle(int n) {
    try { return inner(n); }
    catch (std::exception &) { try { throw std::logic_error("replaced"); } catch (std::logic_error &) { if (n > 5) throw; } throw; }
}
static std::exception_ptr kept(int n) { try { middle(n); } catch (...) { return std::current_exception(); } return nullptr; }
static void wrap(int n) { try { if (n == 0) throw std::runtime_error("bottom"); wrap(n - 1); } catch (...) { std::throw_with_nested(std::runtime_error("level " + std::to_string(n))); } }
static void show(const std::exception &e, int depth = 0) {
    std::printf("%*s%s\n", depth, "", e.what());
    try { std::rethrow_if_nested(e); } catch (const std::exception &inside) { show(inside, depth + 1); }
}
struct counts { ~counts() { std::printf("uncaught %d\n", std::uncaught_exceptions()); } };

int main() {
    for (int n = 0; n < 9; n++) {
        std::exception_ptr p = kept(n);
        if (!p) { std::printf("%d none\n", n); continue; }
        for (int twice = 0; twice < 2; twice++)
            try { std::rethrow_exception(p); }
            catch (int i) { std::printf("%d int %d\n", n, i); }
            catch (std::exception &e) { std::printf("%d %s\n", n, e.what()); }
    }
    try { wrap(3); } catch (const std::exception &e) { show(e); }
    try { counts c; throw 1; } catch (...) {}
    counts last;
    return 0;
}
