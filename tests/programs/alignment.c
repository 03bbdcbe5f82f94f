/* Alignment beyond 16: of locals, globals, members, dynamic rooms, with frames realigned below variable arrays. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static _Alignas(4096) char page[4096];
static _Alignas(128) int line = 7;
struct wide { char c; _Alignas(64) int v; };
static struct wide table[3] = {{'a', 1}, {'b', 2}, {'c', 3}};
static int off(const void *p, uintptr_t by) { return (int)((uintptr_t)p % by); }
static int frame(int n) {
    _Alignas(256) volatile char room[10];
    volatile char more[n * 8 + 1];
    room[0] = more[0] = (char)n;
    return off((const void *)room, 256) * 1000 + room[0] + more[0];
}
static struct wide copy(struct wide w, int by) { w.v += by; return w; }
static int nested(int n) { _Alignas(64) int v = n; return off(&v, 64) + (n ? nested(n - 1) : frame(3)); }

int main(void) {
    void *p = aligned_alloc(512, 1024);
    printf("%d %d %d %d\n", off(page, 4096), off(&line, 128), off(&table[2], 64), off(p, 512));
    for (int i = 0; i < 3; i++) { struct wide w = copy(table[i], i); printf("%d %d %d %d %c\n", frame(i), nested(i), off(&w, 64), w.v, w.c); }
    free(p);
    return (int)sizeof(struct wide);
}
