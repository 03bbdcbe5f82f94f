/* Protothreads: producers and a consumer whose resume labels are kept in structs. */
#include <stdio.h>

struct thread { void *resume; int i, sent; };
struct channel { int full, value; };
#define BEGIN(t) if ((t)->resume) goto *(t)->resume
#define PASTE(a, b) a##b
#define LABEL(n) PASTE(at_, n)
#define WAIT_UNTIL(t, c) do { (t)->resume = &&LABEL(__LINE__); LABEL(__LINE__): if (!(c)) return 1; } while (0)
#define YIELD(t) do { (t)->resume = &&LABEL(__LINE__); return 1; LABEL(__LINE__):; } while (0)

static int produce(struct thread *t, struct channel *c, int step) {
    BEGIN(t);
    for (t->i = 0; t->i < 5; t->i++) {
        WAIT_UNTIL(t, !c->full);
        c->full = 1;
        c->value = t->i * step;
        t->sent++;
        YIELD(t);
    }
    t->resume = &&over;
over:
    return 0;
}
static int consume(struct thread *t, struct channel *c, int *sum) {
    BEGIN(t);
    for (;;) {
        WAIT_UNTIL(t, c->full);
        *sum = *sum * 3 + c->value;
        printf("%d ", c->value);
        c->full = 0;
        YIELD(t);
    }
}

int main(void) {
    struct thread a = {0}, b = {0}, reader = {0};
    struct channel c = {0};
    int sum = 0, alive = 1, turns = 0;
    while (alive || c.full) {
        alive = produce(&a, &c, 7) | produce(&b, &c, 100);
        consume(&reader, &c, &sum);
        turns++;
    }
    printf("\n%d %d %d %d\n", sum, turns, a.sent, b.sent);
    return 0;
}
