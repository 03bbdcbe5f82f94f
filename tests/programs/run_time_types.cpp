// dynamic_cast down, across and to void, typeid, names compared, bad_cast and bad_typeid.
#include <cstdio>
#include <typeinfo>
#include <typeindex>

struct base { virtual ~base() {} };
struct other { virtual ~other() {} int tag = 9; };
struct derived : base { int number = 1; };
struct further : derived, other {};
template <class T> struct box : base { T held{}; };

static int kind(base *b) {
    if (dynamic_cast<further *>(b)) return 3;
    if (dynamic_cast<derived *>(b)) return 2;
    if (dynamic_cast<box<int> *>(b)) return 4;
    return 1;
}
static int across(base *b) { auto *o = dynamic_cast<other *>(b); return o ? o->tag : -1; }
static const char *caught(base &b) {
    try { return dynamic_cast<further &>(b).number ? "further" : "?"; } catch (const std::bad_cast &) { return "bad cast"; }
}

int main() {
    base b;
    derived d;
    further f;
    box<int> bi;
    box<long> bl;
    base *all[] = {&b, &d, &f, &bi, &bl};
    for (base *p : all) std::printf("%d %d %s %d %d\n", kind(p), across(p), caught(*p), typeid(*p) == typeid(derived), dynamic_cast<void *>(p) == p);
    std::printf("%d %d %s\n", typeid(bi) == typeid(bl), std::type_index(typeid(int)) == std::type_index(typeid(const int)), typeid(f).name());
    try { base *none = nullptr; std::printf("%s\n", typeid(*none).name()); } catch (const std::bad_typeid &) { std::puts("bad typeid"); }
    other *o = &f;
    return dynamic_cast<derived *>(o) == &f;
}
