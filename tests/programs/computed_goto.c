/* Interpreters whose labels stay inside one activation: a constant table, a table of differences, a table on the
   stack, and a label in a local variable. */
#include <stdio.h>

enum { PUSH, ADD, MUL, SWAP, DUP, JUMP_IF, CALL_SELF, HALT };

static long run(const int *code, long seed, int depth) {
    static void *const labels[] = {&&push, &&add, &&mul, &&swap, &&dup, &&jump_if, &&call_self, &&halt};
    long stack[32], *top = stack;
    *top = seed;
    const int *at = code;
#define NEXT goto *labels[*at++]
    NEXT;
push: *++top = *at++; NEXT;
add: top--; top[0] += top[1]; NEXT;
mul: top--; top[0] = top[0] * top[1] % 1000003; NEXT;
swap: { long t = top[0]; top[0] = top[-1]; top[-1] = t; } NEXT;
dup: top++; top[0] = top[-1]; NEXT;
jump_if: { int to = *at++; if (*top-- % 7) at = code + to; } NEXT;
call_self: if (depth) *top = run(code, *top, depth - 1); NEXT;
halt: return *top;
}

static int differences(const unsigned char *code) {
    static const int offset[] = {&&inc - &&inc, &&twice - &&inc, &&minus - &&inc, &&done - &&inc};
    int value = 1;
    goto *(&&inc + offset[*code]);
inc: value += 1; goto *(&&inc + offset[*++code]);
twice: value *= 2; goto *(&&inc + offset[*++code]);
minus: value -= 5; goto *(&&inc + offset[*++code]);
done: return value;
}

static int on_the_stack(int which) {
    void *labels[] = {&&zero, &&one, &&two};
    void *target = labels[which % 3];
    goto *target;
zero: return 10;
one: return 11;
two: return 12;
}

static int not_constant(int which) {
    static void *labels[] = {&&red, &&green, &&blue};
    goto *labels[which % 3];
red: return 'r';
green: return 'g';
blue: return 'b';
}

int main(void) {
    static const int program[] = {DUP, PUSH, 3, ADD, MUL, PUSH, 17, ADD, CALL_SELF, DUP, PUSH, 2, SWAP, ADD,
                                  SWAP, ADD, DUP, JUMP_IF, 19, HALT, HALT};
    static const unsigned char steps[] = {0, 1, 1, 2, 0, 1, 3};
    for (int i = 0; i < 20; i++)
        printf("%ld %d %d %c\n", run(program, i, 3), differences(steps + i % 4), on_the_stack(i), not_constant(i));
    return 0;
}
