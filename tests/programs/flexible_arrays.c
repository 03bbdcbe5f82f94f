/* Flexible array members: on the heap and in initialised globals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text { unsigned length; char data[]; };
struct list { int count; struct { int key; double value; } items[]; };
static struct list fixed = {3, {{1, 0.5}, {2, 1.5}, {3, 2.5}}};
static struct text greeting = {5, "hello"};

static struct text *make(const char *from) {
    size_t n = strlen(from);
    struct text *t = malloc(sizeof *t + n + 1);
    t->length = (unsigned)n;
    memcpy(t->data, from, n + 1);
    return t;
}
static struct text *append(struct text *t, const struct text *u) {
    t = realloc(t, sizeof *t + t->length + u->length + 1);
    memcpy(t->data + t->length, u->data, u->length);
    t->data[t->length += u->length] = 0;
    return t;
}
static double sum(const struct list *l) { double s = 0; for (int i = 0; i < l->count; i++) s += l->items[i].key * l->items[i].value; return s; }

int main(void) {
    struct text *t = make("start ");
    for (int i = 0; i < 4; i++) {
        t = append(t, &greeting);
        greeting.data[i]++;
        fixed.items[i % 3].value *= 2;
        printf("%u %s %g\n", t->length, t->data, sum(&fixed));
    }
    free(t);
    return 0;
}
