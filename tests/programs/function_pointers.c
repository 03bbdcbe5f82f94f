/* Function pointers: tables, structs of them, equality in all places, passed round, called much later. */
#include <stdio.h>
#include <stdlib.h>

typedef int operation(int, int);
static int add(int a, int b) { return a + b; }
static int sub(int a, int b) { return a - b; }
int mul(int a, int b) { return a * b; }
static int divide(int a, int b) { return b ? a / b : 0; }
static operation *const table[] = {add, sub, mul, divide};
static struct { const char *name; operation *run; } named[] = {{"add", add}, {"sub", sub}, {"mul", mul}, {"div", divide}};
static operation *variable = mul;
static int (*host)(const char *) = puts;

static operation *pick(int i) { return table[i % 4]; }
static int is_add(operation *f) { return f == add; }
static int apply(operation *f, int a, int b) { return f(a, b); }
static operation *compose(operation *f, operation *g) { return is_add(f) ? g : f; }
static int self_address(void *other) { return (void *)self_address == other; }
static int recurse(int n, int (*f)(int, void *), void *data) { return n ? f(n - 1, data) + 1 : 0; }
static int bounce(int n, void *data) { return recurse(n, (int (*)(int, void *))data, data); }

int main(void) {
    operation **heap = malloc(4 * sizeof *heap);
    for (int i = 0; i < 4; i++) heap[i] = pick(i);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 4; i++) {
            printf("%d ", apply(heap[i], 17, round));
            if (heap[i] != table[i] || heap[i] != named[i].run || pick(i) != heap[i]) printf("different! ");
        }
        variable = compose(variable, pick(round));
        printf("%d %d %d\n", variable == sub, is_add(heap[0]), is_add(mul));
    }
    printf("%d %d %d\n", self_address((void *)self_address), self_address((void *)add), recurse(9, bounce, (void *)bounce));
    if (host == puts) host("puts by pointer");
    free(heap);
    return 0;
}
