/* A small stack language: a compiler from text to byte code, and an interpreter with computed goto, that runs
   several programs - sums, primes, sorting, recursion, strings - under a count of steps. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum op {
    OP_PUSH, OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD,
    OP_DUP, OP_SWAP, OP_OVER, OP_ROT, OP_DROP,
    OP_EQ, OP_LT, OP_GT, OP_NOT, OP_AND, OP_OR, OP_XOR,
    OP_JUMP, OP_JUMP_UNLESS, OP_CALL, OP_RETURN,
    OP_LOAD, OP_STORE, OP_PRINT, OP_EMIT, OP_TEXT, OP_HOST,
    OP_TO_R, OP_FROM_R, OP_HALT,
    OPS
};

enum { CODE_ROOM = 2000, STACK_ROOM = 256, CELLS = 300, WORDS = 64, NESTING = 32 };

struct word {
    char name[16];
    int start;
};

struct control {
    char kind;
    int at;
};

struct machine {
    int code[CODE_ROOM];
    int size;
    struct word words[WORDS];
    int word_count;
    struct control open[NESTING];
    int depth;
    const char *texts[32];
    int text_count;
    long cells[CELLS];
    long stack[STACK_ROOM];
    int calls[STACK_ROOM];
    long steps;
    char error[80];
    unsigned counted[OPS];
};

struct primitive {
    const char *name;
    enum op op;
};

static const struct primitive primitives[] = {
    {"+", OP_ADD}, {"-", OP_SUB}, {"*", OP_MUL}, {"/", OP_DIV}, {"mod", OP_MOD},
    {"dup", OP_DUP}, {"swap", OP_SWAP}, {"over", OP_OVER}, {"rot", OP_ROT}, {"drop", OP_DROP},
    {"=", OP_EQ}, {"<", OP_LT}, {">", OP_GT}, {"not", OP_NOT}, {"and", OP_AND}, {"or", OP_OR}, {"xor", OP_XOR},
    {"@", OP_LOAD}, {"!", OP_STORE}, {".", OP_PRINT}, {"emit", OP_EMIT},
    {">r", OP_TO_R}, {"r>", OP_FROM_R}, {"halt", OP_HALT},
};

typedef long host_function(struct machine *, long);

static long host_square(struct machine *m, long x) {
    (void)m;
    return x * x;
}

static long host_steps(struct machine *m, long x) {
    return m->steps > x;
}

static int compare_cells(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long host_sort(struct machine *m, long count) {
    qsort(m->cells, (size_t)count, sizeof *m->cells, compare_cells);
    return count;
}

static const struct host {
    const char *name;
    host_function *run;
} hosts[] = {{"square", host_square}, {"steps?", host_steps}, {"sort", host_sort}};

enum { HOSTS = sizeof hosts / sizeof *hosts, PRIMITIVES = sizeof primitives / sizeof *primitives };

static void fail(struct machine *m, const char *how, ...) {
    va_list args;
    va_start(args, how);
    if (!m->error[0]) vsnprintf(m->error, sizeof m->error, how, args);
    va_end(args);
}

static int put(struct machine *m, int value) {
    if (m->size == CODE_ROOM) {
        fail(m, "too much code");
        return 0;
    }
    m->code[m->size] = value;
    return m->size++;
}

static void put2(struct machine *m, enum op op, int argument) {
    put(m, op);
    put(m, argument);
}

static void open_block(struct machine *m, char kind, int at) {
    if (m->depth == NESTING) {
        fail(m, "nested too deep");
        return;
    }
    m->open[m->depth++] = (struct control){kind, at};
}

static int close_block(struct machine *m, char kind) {
    if (!m->depth || m->open[m->depth - 1].kind != kind) {
        fail(m, "%c does not match", kind);
        return 0;
    }
    return m->open[--m->depth].at;
}

static int find_word(const struct machine *m, const char *name) {
    for (int i = m->word_count; i-- > 0;)
        if (!strcmp(m->words[i].name, name)) return m->words[i].start;
    return -1;
}

static int find_primitive(const char *name) {
    for (int i = 0; i < PRIMITIVES; i++)
        if (!strcmp(primitives[i].name, name)) return (int)primitives[i].op;
    return -1;
}

static int find_host(const char *name) {
    for (int i = 0; i < HOSTS; i++)
        if (!strcmp(hosts[i].name, name)) return i;
    return -1;
}

static const char *next_token(const char *at, char *token, size_t room) {
    while (isspace((unsigned char)*at)) at++;
    size_t n = 0;
    while (*at && !isspace((unsigned char)*at)) {
        if (n + 1 < room) token[n++] = *at;
        at++;
    }
    token[n] = 0;
    return at;
}

static const char *take_text(struct machine *m, const char *at) {
    const char *end = strchr(at, '"');
    if (!end) {
        fail(m, "text without end");
        return at + strlen(at);
    }
    char *copy = malloc((size_t)(end - at) + 1);
    memcpy(copy, at, (size_t)(end - at));
    copy[end - at] = 0;
    put2(m, OP_TEXT, m->text_count);
    m->texts[m->text_count++ % 32] = copy;
    return end + 1;
}

static int keyword(struct machine *m, const char *token) {
    if (!strcmp(token, "if")) {
        put(m, OP_JUMP_UNLESS);
        open_block(m, 'i', put(m, 0));
    } else if (!strcmp(token, "else")) {
        int from = close_block(m, 'i');
        put(m, OP_JUMP);
        open_block(m, 'i', put(m, 0));
        m->code[from] = m->size;
    } else if (!strcmp(token, "then")) {
        m->code[close_block(m, 'i')] = m->size;
    } else if (!strcmp(token, "begin")) {
        open_block(m, 'b', m->size);
    } else if (!strcmp(token, "until")) {
        put2(m, OP_JUMP_UNLESS, close_block(m, 'b'));
    } else if (!strcmp(token, "while")) {
        put(m, OP_JUMP_UNLESS);
        open_block(m, 'w', put(m, 0));
    } else if (!strcmp(token, "repeat")) {
        int out = close_block(m, 'w');
        put2(m, OP_JUMP, close_block(m, 'b'));
        m->code[out] = m->size;
    } else if (!strcmp(token, ";")) {
        put(m, OP_RETURN);
        m->code[close_block(m, ':')] = m->size;
    } else {
        return 0;
    }
    return 1;
}

static void compile(struct machine *m, const char *source) {
    char token[32];
    const char *at = source;
    while (at = next_token(at, token, sizeof token), token[0] && !m->error[0]) {
        int found;
        char *end;
        if (!strcmp(token, ":")) {
            at = next_token(at, token, sizeof token);
            put(m, OP_JUMP);
            open_block(m, ':', put(m, 0));
            struct word *w = &m->words[m->word_count++ % WORDS];
            snprintf(w->name, sizeof w->name, "%.15s", token);
            w->start = m->size;
        } else if (!strcmp(token, "\"")) {
            at = take_text(m, *at ? at + 1 : at);
        } else if (keyword(m, token)) {
        } else if ((found = find_word(m, token)) >= 0) {
            put2(m, OP_CALL, found);
        } else if ((found = find_primitive(token)) >= 0) {
            put(m, found);
        } else if ((found = find_host(token)) >= 0) {
            put2(m, OP_HOST, found);
        } else {
            long number = strtol(token, &end, 0);
            if (*end) fail(m, "unknown word %s", token);
            put2(m, OP_PUSH, (int)number);
        }
    }
    if (m->depth) fail(m, "%c is left open", m->open[m->depth - 1].kind);
    put(m, OP_HALT);
}

static int run(struct machine *m, long limit) {
    static void *const labels[OPS] = {
        [OP_PUSH] = &&push, [OP_ADD] = &&add, [OP_SUB] = &&sub, [OP_MUL] = &&mul, [OP_DIV] = &&div_, [OP_MOD] = &&mod,
        [OP_DUP] = &&dup, [OP_SWAP] = &&swap, [OP_OVER] = &&over, [OP_ROT] = &&rot, [OP_DROP] = &&drop,
        [OP_EQ] = &&eq, [OP_LT] = &&lt, [OP_GT] = &&gt, [OP_NOT] = &&not_, [OP_AND] = &&and_, [OP_OR] = &&or_,
        [OP_XOR] = &&xor_, [OP_JUMP] = &&jump, [OP_JUMP_UNLESS] = &&jump_unless, [OP_CALL] = &&call,
        [OP_RETURN] = &&return_, [OP_LOAD] = &&load, [OP_STORE] = &&store, [OP_PRINT] = &&print, [OP_EMIT] = &&emit,
        [OP_TEXT] = &&text, [OP_HOST] = &&host, [OP_TO_R] = &&to_r, [OP_FROM_R] = &&from_r, [OP_HALT] = &&halt,
    };
    long *top = m->stack + 8, *low = m->stack + 8, *high = m->stack + STACK_ROOM - 8, t;
    int *back = m->calls;
    const int *at = m->code;
#define NEXT                                                    \
    do {                                                        \
        if (++m->steps > limit) { fail(m, "too many steps"); goto halt; } \
        if (top < low - 1 || top > high) { fail(m, "stack"); goto halt; } \
        m->counted[*at]++;                                      \
        goto *labels[*at++];                                    \
    } while (0)
#define BINARY(e) do { t = top[0]; top--; top[0] = (e); NEXT; } while (0)
    top = low - 1;
    NEXT;
push: *++top = *at++; NEXT;
add: BINARY(top[0] + t);
sub: BINARY(top[0] - t);
mul: BINARY(top[0] * t);
div_: if (!*top) { fail(m, "division by zero"); goto halt; } BINARY(top[0] / t);
mod: if (!*top) { fail(m, "division by zero"); goto halt; } BINARY(top[0] % t);
dup: top++; top[0] = top[-1]; NEXT;
swap: t = top[0]; top[0] = top[-1]; top[-1] = t; NEXT;
over: top++; top[0] = top[-2]; NEXT;
rot: t = top[-2]; top[-2] = top[-1]; top[-1] = top[0]; top[0] = t; NEXT;
drop: top--; NEXT;
eq: BINARY(top[0] == t);
lt: BINARY(top[0] < t);
gt: BINARY(top[0] > t);
not_: *top = !*top; NEXT;
and_: BINARY(top[0] & t);
or_: BINARY(top[0] | t);
xor_: BINARY(top[0] ^ t);
jump: at = m->code + *at; NEXT;
jump_unless: at = *top-- ? at + 1 : m->code + *at; NEXT;
call:
    if (back - m->calls > STACK_ROOM - 4) { fail(m, "calls too deep"); goto halt; }
    *back++ = (int)(at + 1 - m->code);
    at = m->code + *at;
    NEXT;
return_: at = m->code + *--back; NEXT;
load:
    if (*top < 0 || *top >= CELLS) { fail(m, "no cell %ld", *top); goto halt; }
    *top = m->cells[*top];
    NEXT;
store:
    if (*top < 0 || *top >= CELLS) { fail(m, "no cell %ld", *top); goto halt; }
    m->cells[top[0]] = top[-1];
    top -= 2;
    NEXT;
print: printf("%ld ", *top--); NEXT;
emit: putchar((int)*top--); NEXT;
text: printf("%s", m->texts[*at++]); NEXT;
host: *top = hosts[*at++].run(m, *top); NEXT;
to_r: *back++ = (int)*top--; NEXT;
from_r: *++top = *--back; NEXT;
halt:
    return (int)(top - low + 1);
}

static const char *const programs[] = {
    "\" numbers: \" 1 2 + 3 * . 10 3 - . 17 5 mod . 17 5 / . -7 square . 6 3 and . 6 3 xor .",
    ": sum 0 swap begin dup while dup rot + swap 1 - repeat drop ; \" sums: \" 10 sum . 100 sum . 0 sum .",
    ": fact dup 2 < if drop 1 else dup 1 - fact * then ; \" factorials: \" 5 fact . 10 fact . 15 fact .",
    ": fib dup 2 < if else dup 1 - fib swap 2 - fib + then ; \" fibonacci: \" 10 fib . 14 fib .",
    ": gcd begin dup while swap over mod repeat drop ; \" gcd: \" 48 36 gcd . 1071 462 gcd . 17 5 gcd .",
    ": clear 0 begin dup 200 < while 1 over ! 1 + repeat drop ; "
    ": strike dup dup + begin dup 200 < while 0 over ! over + repeat drop drop ; "
    ": sieve clear 2 begin dup 15 < while dup @ if dup strike then 1 + repeat drop ; "
    ": count 0 2 begin dup 200 < while dup @ rot + swap 1 + repeat drop ; "
    "\" primes: \" sieve count . 2 begin dup 40 < while dup @ if dup . then 1 + repeat drop",
    ": fill 0 begin dup 20 < while dup 37 * 11 + 101 mod over ! 1 + repeat drop ; "
    ": show 0 begin dup 20 < while dup @ . 3 + repeat drop ; \" sorted: \" fill show 20 sort drop 124 emit 32 emit show",
    ": even dup if 1 - 1 >r r> drop dup if 1 - even else drop 0 then else drop 1 then ; \" even: \" 40 even . 41 even .",
    ": stars begin dup while 42 emit 1 - repeat drop ; \" stars: \" 3 stars 32 emit 7 stars",
    "\" steps: \" 0 begin 1 + 10000 steps? until 100 / .",
    "\" fault: \" 1 0 /",
    "\" fault: \" 999 @",
    "\" fault: \" begin 1 0 until",
    "\" fault: \" drop drop drop",
    ": deep deep ; \" fault: \" deep",
    "1 if 2",
    "1 unknown 2",
    "then",
};

static unsigned total[OPS];

static void execute(const char *source) {
    struct machine *m = calloc(1, sizeof *m);
    compile(m, source);
    int left = 0;
    if (!m->error[0]) left = run(m, 20000);
    if (m->error[0]) printf("(%s) ", m->error);
    printf("[%d words, %d left]\n", m->word_count, left);
    for (int i = 0; i < OPS; i++) total[i] += m->counted[i];
    for (int i = 0; i < m->text_count; i++) free((void *)m->texts[i]);
    free(m);
}

int main(void) {
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) execute(programs[i]);
    unsigned sum = 0;
    for (int i = 0; i < OPS; i++) {
        sum = sum * 31 + total[i];
        printf("%u ", total[i]);
    }
    printf("\n%u\n", sum);
    return (int)(sum % 200);
}
