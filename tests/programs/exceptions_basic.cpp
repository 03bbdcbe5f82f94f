// Thrown and caught: by value, by reference, by base, by pointer, by "...", from far down, and never thrown.
#include <cstdio>
#include <stdexcept>
#include <string>

struct odd { int value; };
struct special : std::runtime_error { int code; special(const char *what, int code) : std::runtime_error(what), code(code) {} };
static int deep(int n, int how) {
    if (n) return deep(n - 1, how) + 1;
    switch (how) {
    case 0: throw 42;
    case 1: throw odd{7};
    case 2: throw special("special", 3);
    case 3: throw std::out_of_range("range");
    case 4: throw "text";
    case 5: throw std::string("a string too long for its own room");
    case 6: return std::stoi("no number");
    case 7: return static_cast<int>(std::string("short").at(9));
    case 8: throw 1.5;
    default: return 1000;
    }
}
static int attempt(int how) {
    try {
        return deep(how * 3, how);
    } catch (int i) { return i; }
    catch (const odd &o) { return o.value * 100; }
    catch (const special &s) { return s.code + 1000 * (s.what()[0] == 's'); }
    catch (const std::logic_error &e) { std::printf("%s; ", e.what()); return 5; }
    catch (const char *t) { return t[0]; }
    catch (std::string &s) { s += "!"; return static_cast<int>(s.size()); }
    catch (...) { return -1; }
}

int main() {
    for (int round = 0; round < 2; round++) for (int how = 0; how < 10; how++) std::printf("%d ", attempt(how));
    std::printf("\n");
    return 0;
}
