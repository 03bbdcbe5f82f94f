// operator new and delete of the program's own, in place, for classes and for all; counted to the end.
#include <cstdio>
#include <cstdlib>
#include <new>

static int live, made;
// What the optimiser must take for used: else it leaves out what is made and deleted again.
template <class T> static T *used(T *p) {
    asm volatile("" : "+r"(p) : : "memory");
    return p;
}
void *operator new(std::size_t n) { live++; made++; if (void *p = std::malloc(n)) return p; throw std::bad_alloc(); }
void operator delete(void *p) noexcept { if (p) live--; std::free(p); }
void operator delete(void *p, std::size_t) noexcept { operator delete(p); }
struct pooled {
    int value;
    static char room[4][16];
    static int used;
    explicit pooled(int v) : value(v) {}
    static void *operator new(std::size_t) { return room[used++]; }
    static void operator delete(void *) { used--; }
};
alignas(16) char pooled::room[4][16];
int pooled::used;
struct plain { int a[3]; virtual ~plain() { made += 100; } };
struct more : plain { double b; ~more() override { made += 1000; } };

int main() {
    pooled *a = new pooled(1), *b = new pooled(2);
    std::printf("%d %d %d\n", pooled::used, static_cast<int>(reinterpret_cast<char *>(b) - reinterpret_cast<char *>(a)), a->value + b->value);
    delete b;
    plain *p = used<plain>(new more);
    plain *list = used(new plain[5]);
    alignas(more) char room[sizeof(more)];
    more *in_place = new (room) more;
    in_place->~more();
    std::printf("%d %d\n", live, made);
    delete p;
    delete[] list;
    delete a;
    std::printf("%d %d %d\n", live, made, pooled::used);
    return 0;
}
