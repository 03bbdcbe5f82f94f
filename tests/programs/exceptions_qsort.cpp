// An exception that passes through libc: out of comparisons of qsort and bsearch, and caught outside.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

static int compared, limit;
struct watch { int *at; ~watch() { ++*at; } };
static int left;
extern "C" int compare(const void *a, const void *b) {
    watch w{&left};
    if (++compared > limit) throw std::runtime_error("enough");
    return *static_cast<const int *>(a) - *static_cast<const int *>(b);
}

int main() {
    for (limit = 1; limit < 30; limit += 7) {
        int n[] = {5, 3, 8, 1, 9, 2, 7};
        compared = left = 0;
        try {
            std::qsort(n, 7, sizeof *n, compare);
            std::printf("%d %d sorted %d\n", n[0], n[6], compared == left);
        } catch (const std::exception &e) {
            std::printf("%s %d %d\n", e.what(), compared, left);
        }
    }
    int keys[] = {1, 2, 3}, key = 3;
    limit = 0;
    try { std::bsearch(&key, keys, 3, sizeof key, compare); } catch (std::runtime_error &) { std::puts("left bsearch"); }
    return 0;
}
