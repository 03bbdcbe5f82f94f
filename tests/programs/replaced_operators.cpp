// operator new and delete of the program's own serve the library too: all forms, counted, and one that throws.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>
#include <string>
#include <vector>

static long live, made, large;
static bool empty;

void *operator new(std::size_t size) {
    if (empty) throw std::bad_alloc();
    live++;
    made++;
    large += size >= 100;
    // Room in front, so that memory of libc's own is told from ours.
    char *p = static_cast<char *>(std::malloc(size + 16));
    p[0] = 'n';
    return p + 16;
}
void operator delete(void *p) noexcept {
    if (!p) return;
    char *begin = static_cast<char *>(p) - 16;
    if (begin[0] != 'n') std::abort();
    begin[0] = 'd';
    live--;
    std::free(begin);
}

// What the optimiser must take for used: else it leaves out what is made and deleted again.
template <class T> static T *used(T *p) {
    asm volatile("" : "+r"(p) : : "memory");
    return p;
}
struct alignas(64) wide { char bytes[64]; };

static void forms() {
    delete used(new int(1));
    delete[] used(new long[20]);
    int *p = used(new (std::nothrow) int(2));
    operator delete(p, std::nothrow);
    long *list = used(new (std::nothrow) long[30]);
    operator delete[](list, std::nothrow);
    operator delete(used(operator new(40)), std::size_t(40));
    delete used(new wide); // with an alignment, it is the library's
    std::printf("%ld %ld %ld\n", live, made, large);
}

static void library() {
    std::string text(200, 'a');
    text += std::to_string(12345678901234567LL);
    std::ostringstream stream;
    for (int i = 0; i < 100; i++) stream << i << ',' << text.substr(0, 20);
    std::vector<std::string> parts(10, stream.str());
    std::printf("%d %d\n", static_cast<int>(parts.back().size()), live > 10);
}

static void fails() {
    empty = true;
    try {
        std::string text(1000, 'b');
        std::printf("%zu\n", text.size());
    } catch (const std::bad_alloc &) {
        empty = false;
        std::puts("caught");
    }
    empty = true;
    int *none = used(new (std::nothrow) int);
    empty = false;
    std::printf("%d\n", none == nullptr);
}

int main() {
    forms();
    library();
    fails();
    std::printf("%ld\n", live);
    return 0;
}
