// Pointers to members: data, functions, virtual ones, adjusted to other bases, in tables, compared, null.
extern "C" int printf(const char *, ...);

struct a { int x = 1; virtual int f(int n) { return n + x; } int g(int n) { return n * 10 + x; } };
struct b { int y = 2; virtual int h(int n) { return n - y; } int k(int n) { return n * 100 + y; } };
struct c : a, b { int z = 3; int f(int n) override { return n + 1000; } int h(int n) override { return n + 2000 + z; } };
using method = int (c::*)(int);
static const method table[] = {&c::f, static_cast<method>(&a::g), &c::h, static_cast<method>(&b::k), nullptr};
static int call(c &o, method m, int n) { return m ? (o.*m)(n) : -1; }
static int read(const c &o, int c::*m) { return m ? o.*m : -1; }
static bool same(method m, method n) { return m == n; }

int main() {
    c o;
    for (int i = 0; i < 5; i++) printf("%d ", call(o, table[i], i));
    int b::*in_b = &b::y;
    int c::*members[] = {&c::x, in_b, &c::z, nullptr};
    for (auto m : members) printf("%d ", read(o, m));
    printf("%d %d %d\n", same(table[0], &a::f), same(table[1], table[3]), same(table[4], nullptr));
    return 0;
}
