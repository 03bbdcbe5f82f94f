/* Labels that outlive an activation: direct threading, a table that is written, resume labels, and a table whose
   address another function gets. */
#include <stdio.h>
#include <stdlib.h>

/* Direct threading: opcodes are translated to labels once, by a first call, and kept on the heap. */
static long threaded(void **code, void ***labels_out) {
    static void *labels[] = {&&add, &&twice, &&loop, &&stop};
    if (labels_out) {
        *labels_out = labels;
        return 0;
    }
    long value = 1, left = 5;
    void **at = code;
    goto **at++;
add: value += 3; goto **at++;
twice: value *= 2; goto **at++;
loop: if (left--) at = code; goto **at++;
stop: return value;
}

/* A table that is filled at run time. */
static void *dispatch[4];
static int written(int what) {
    if (what < 0) {
        dispatch[0] = &&north;
        dispatch[1] = &&south;
        dispatch[2] = dispatch[3] = &&nowhere;
        return 0;
    }
    goto *dispatch[what & 3];
north: return 'N';
south: return 'S';
nowhere: return '-';
}

/* A protothread: it goes on where it left off. */
struct thread { void *resume; int i; };
static int next(struct thread *t) {
    if (t->resume) goto *t->resume;
    for (t->i = 0; t->i < 4; t->i++) {
        t->resume = &&odd;
        return t->i * 10;
    odd:
        t->resume = &&even;
        return t->i * 10 + 1;
    even:;
    }
    t->resume = &&end;
end:
    return -1;
}

static int noise(int x) { return x * 7 % 13; }

int main(void) {
    void **labels;
    threaded(0, &labels);
    int program[] = {0, 1, 0, 2, 1, 3};
    void **code = malloc(sizeof program / sizeof *program * sizeof *code);
    for (int i = 0; i < 6; i++) code[i] = labels[program[i]];
    written(-1);
    struct thread a = {0}, b = {0};
    for (int i = 0; i < 12; i++) {
        printf("%ld %c %d", threaded(code, 0), written(noise(i)), next(&a));
        if (i % 3 == 0) printf(" %d", next(&b));
        printf("\n");
    }
    printf("%d\n", labels[0] == code[0] && labels[1] != labels[2]);
    free(code);
    return 0;
}
