/* Direct threading: byte code is translated in place to labels of a static table that is filled at run time. */
#include <stdio.h>
#include <string.h>

enum { ADD, SUB, DOUBLE, SKIP, BACK, STOP, OPS };
static void *table[OPS];
static union cell { long number; void *label; } code[3][16];

static long run(union cell *at, long value) {
    if (!at) {
        void *all[] = {&&add, &&sub, &&twice, &&skip, &&back, &&stop};
        memcpy(table, all, sizeof all);
        return OPS;
    }
    goto *(at++)->label;
add: value += (at++)->number; goto *(at++)->label;
sub: value -= (at++)->number; goto *(at++)->label;
twice: value *= 2; goto *(at++)->label;
skip: at += value & 1 ? at->number + 1 : 1; goto *(at++)->label;
back: at -= value < 1000 ? at->number : -1; goto *(at++)->label;
stop: return value;
}
static void translate(union cell *cells) {
    for (int i = 0; i < 16; i++) {
        long op = cells[i].number;
        cells[i].label = table[op];
        if (op == STOP) break;
        if (op != DOUBLE) i++;
    }
}

int main(void) {
    static const long programs[3][16] = {{ADD, 5, DOUBLE, SUB, 3, STOP},
                                         {DOUBLE, ADD, 1, BACK, 4, SUB, 7, STOP},
                                         {SKIP, 2, ADD, 1, DOUBLE, ADD, 2, BACK, 8, STOP}};
    printf("%ld\n", run(0, 0));
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 16; i++) code[p][i].number = programs[p][i];
        translate(code[p]);
    }
    for (int i = 0; i < 9; i++) printf("%ld ", run(code[i % 3], i));
    printf("\n%d %d\n", code[0][0].label == table[ADD], code[0][0].label == code[2][2].label);
    return 0;
}
