/* Compiled with -g: variables, inlined functions, types and macros described, and the description dropped. */
#include <stdio.h>

struct point { int x, y; };
typedef struct point point_t;
enum colour { RED = 1, GREEN, BLUE };
static point_t origin = {0, 0};
static inline int square(int x) { int result = x * x; return result; }
static int distance(point_t a, point_t b) { int dx = a.x - b.x, dy = a.y - b.y; return square(dx) + square(dy); }
static enum colour next(enum colour c) { switch (c) { case RED: return GREEN; case GREEN: return BLUE; default: return RED; } }
static int walk(int n, ...) { int local[n + 1]; for (int i = 0; i <= n; i++) local[i] = square(i); return local[n]; }

int main(int argc, char **argv) {
    enum colour c = RED;
    for (int i = 0; i < 4; i++) {
        point_t p = {i, i + argc};
        c = next(c);
        printf("%d %d %d\n", distance(p, origin), c, walk(i));
    }
    return argv[0] == 0;
}
