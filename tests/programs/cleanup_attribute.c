/* Clean-ups at the end of scopes: on return, break, goto and fall through, in reverse order. */
#include <stdio.h>
#include <stdlib.h>

static int depth;
struct guard { const char *name; };
static struct guard enter(const char *name) { printf("%*s+%s\n", depth++, "", name); return (struct guard){name}; }
static void leave(struct guard *g) { printf("%*s-%s\n", --depth, "", g->name); }
static void release(char **p) { free(*p); depth += 0; }
#define GUARD(n) __attribute__((cleanup(leave))) struct guard guard_##n = enter(#n)

static int work(int how) {
    GUARD(outer);
    __attribute__((cleanup(release))) char *room = malloc(10);
    for (int i = 0; i < 3; i++) {
        GUARD(loop);
        if (how == 0 && i == 1) return i;
        if (how == 1 && i == 1) break;
        if (how == 2 && i == 2) goto out;
        GUARD(inner);
    }
    { GUARD(block); }
out:
    return room != NULL;
}

int main(void) {
    int sum = 0;
    for (int how = 0; how < 4; how++) sum = sum * 10 + work(how);
    return sum % 100;
}
