/* A compressor: LZ77 with hash chains, then canonical Huffman codes for literals, lengths and distances; a
   decompressor; round trips over generated data of several kinds, and damaged input that must be found out. */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 4096, MIN_MATCH = 3, MAX_MATCH = 66, HASH_BITS = 12, CHAIN = 16,
    END = 256, FIRST_LENGTH = 257, LENGTHS = MAX_MATCH - MIN_MATCH + 1, SYMBOLS = FIRST_LENGTH + LENGTHS,
    DISTANCES = 24, MAX_BITS = 15
};

struct bytes {
    uint8_t *data;
    size_t size, room;
};

struct token {
    uint16_t length, value; /* a literal has length 0; else value is a distance */
};

struct tokens {
    struct token *list;
    size_t count, room;
};

struct code {
    uint16_t bits[SYMBOLS];
    uint8_t lengths[SYMBOLS];
    int count;
};

struct writer {
    struct bytes *out;
    uint32_t held;
    int bits;
};

struct reader {
    const uint8_t *data;
    size_t size, at;
    uint32_t held;
    int bits;
    jmp_buf failed;
    const char *why;
};

struct node {
    unsigned long weight;
    int symbol, left, right;
};

static void push(struct bytes *b, int byte) {
    if (b->size == b->room) {
        b->room = b->room ? b->room * 2 : 64;
        b->data = realloc(b->data, b->room);
    }
    b->data[b->size++] = (uint8_t)byte;
}

static void add_token(struct tokens *t, unsigned length, unsigned value) {
    if (t->count == t->room) {
        t->room = t->room ? t->room * 2 : 64;
        t->list = realloc(t->list, t->room * sizeof *t->list);
    }
    t->list[t->count++] = (struct token){(uint16_t)length, (uint16_t)value};
}

static unsigned hash(const uint8_t *p) {
    return ((p[0] << 16 | p[1] << 8 | p[2]) * 2654435761u) >> (32 - HASH_BITS);
}

static unsigned match_length(const uint8_t *a, const uint8_t *b, size_t limit) {
    unsigned n = 0;
    while (n < limit && n < MAX_MATCH && a[n] == b[n]) n++;
    return n;
}

struct finder {
    int32_t heads[1 << HASH_BITS];
    int32_t previous[WINDOW];
};

static void remember(struct finder *f, const uint8_t *data, size_t at) {
    unsigned h = hash(data + at);
    f->previous[at % WINDOW] = f->heads[h];
    f->heads[h] = (int32_t)at;
}

static unsigned find(const struct finder *f, const uint8_t *data, size_t at, size_t size, unsigned *distance) {
    unsigned best = 0;
    int32_t candidate = f->heads[hash(data + at)];
    for (int tries = CHAIN; tries-- && candidate >= 0 && at - (size_t)candidate < WINDOW;) {
        unsigned n = match_length(data + candidate, data + at, size - at);
        if (n > best) {
            best = n;
            *distance = (unsigned)(at - (size_t)candidate);
        }
        int32_t next = f->previous[(size_t)candidate % WINDOW];
        if (next >= candidate) break;
        candidate = next;
    }
    return best >= MIN_MATCH ? best : 0;
}

static struct tokens tokenise(const uint8_t *data, size_t size) {
    struct tokens t = {0};
    struct finder *f = malloc(sizeof *f);
    memset(f, 0xff, sizeof *f);
    for (size_t at = 0; at < size;) {
        unsigned distance = 0, length = 0;
        if (at + MIN_MATCH <= size) length = find(f, data, at, size, &distance);
        unsigned step = length ? length : 1;
        if (length) add_token(&t, length, distance);
        else add_token(&t, 0, data[at]);
        while (step--) {
            if (at + MIN_MATCH <= size) remember(f, data, at);
            at++;
        }
    }
    add_token(&t, 0, END);
    free(f);
    return t;
}

/* A distance is written as a class, which says how many bits follow. */
static int distance_class(unsigned distance, int *extra_bits, unsigned *extra) {
    int bits = 0;
    while (distance >> (bits + 1)) bits++;
    if (bits == 0) {
        *extra_bits = 0;
        *extra = 0;
        return 0;
    }
    *extra_bits = bits - 1;
    *extra = distance & ((1u << (bits - 1)) - 1);
    return bits * 2 - 1 + (int)(distance >> (bits - 1) & 1);
}

static unsigned class_distance(int class, unsigned extra) {
    if (class == 0) return 1;
    int bits = (class + 1) / 2;
    return 1u << bits | (unsigned)((class + 1) & 1) << (bits - 1) | extra;
}

static int class_bits(int class) {
    return class == 0 ? 0 : (class + 1) / 2 - 1;
}

static struct node nodes[2 * SYMBOLS];

static int by_weight(const void *a, const void *b) {
    const struct node *x = &nodes[*(const int *)a], *y = &nodes[*(const int *)b];
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->symbol < y->symbol ? 1 : -1;
}

static void assign_depths(int at, int depth, uint8_t *lengths) {
    const struct node *n = &nodes[at];
    if (n->left < 0) {
        lengths[n->symbol] = (uint8_t)(depth ? depth : 1);
        return;
    }
    assign_depths(n->left, depth + 1, lengths);
    assign_depths(n->right, depth + 1, lengths);
}

static int longest(const struct code *c) {
    int most = 0;
    for (int i = 0; i < c->count; i++) if (c->lengths[i] > most) most = c->lengths[i];
    return most;
}

static void canonical(struct code *c) {
    unsigned code = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++, code <<= 1)
        for (int i = 0; i < c->count; i++)
            if (c->lengths[i] == bits) c->bits[i] = (uint16_t)code++;
}

static void make_code(struct code *c, const unsigned long *counts, int count) {
    unsigned long floor = 0;
    memset(c, 0, sizeof *c);
    c->count = count;
    do {
        int heap[SYMBOLS], size = 0, used = 0;
        memset(c->lengths, 0, sizeof c->lengths);
        for (int i = 0; i < count; i++) {
            if (!counts[i]) continue;
            nodes[used] = (struct node){counts[i] > floor ? counts[i] : floor, i, -1, -1};
            heap[size++] = used++;
        }
        if (!size) return;
        while (size > 1) {
            qsort(heap, (size_t)size, sizeof *heap, by_weight);
            int a = heap[size - 1], b = heap[size - 2];
            nodes[used] = (struct node){nodes[a].weight + nodes[b].weight, count + used, a, b};
            heap[--size - 1] = used++;
        }
        assign_depths(heap[0], 0, c->lengths);
        floor = floor * 2 + 2;
    } while (longest(c) > MAX_BITS);
    canonical(c);
}

static void write_bits(struct writer *w, unsigned value, int bits) {
    while (bits--) {
        w->held = w->held << 1 | (value >> bits & 1);
        if (++w->bits == 8) {
            push(w->out, (int)(w->held & 255));
            w->bits = 0;
            w->held = 0;
        }
    }
}

static void write_symbol(struct writer *w, const struct code *c, int symbol) {
    write_bits(w, c->bits[symbol], c->lengths[symbol]);
}

/* Lengths of codes, with runs of zeros shortened. */
static void write_lengths(struct writer *w, const struct code *c) {
    for (int i = 0; i < c->count;) {
        int run = 0;
        while (i + run < c->count && !c->lengths[i + run] && run < 63) run++;
        if (run) {
            write_bits(w, 0, 4);
            write_bits(w, (unsigned)run, 6);
            i += run;
        } else {
            write_bits(w, c->lengths[i++], 4);
        }
    }
}

static uint32_t checksum(const uint8_t *data, size_t size) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < size; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static struct bytes compress(const uint8_t *data, size_t size) {
    struct tokens t = tokenise(data, size);
    unsigned long symbols[SYMBOLS] = {0}, distances[DISTANCES] = {0};
    int extra_bits;
    unsigned extra;
    for (size_t i = 0; i < t.count; i++) {
        if (t.list[i].length) {
            symbols[FIRST_LENGTH + t.list[i].length - MIN_MATCH]++;
            distances[distance_class(t.list[i].value, &extra_bits, &extra)]++;
        } else {
            symbols[t.list[i].value]++;
        }
    }
    struct code literal, distance;
    make_code(&literal, symbols, SYMBOLS);
    make_code(&distance, distances, DISTANCES);
    struct bytes out = {0};
    struct writer w = {&out, 0, 0};
    uint32_t sum = checksum(data, size);
    write_bits(&w, sum >> 16, 16);
    write_bits(&w, sum & 0xffff, 16);
    write_lengths(&w, &literal);
    write_lengths(&w, &distance);
    for (size_t i = 0; i < t.count; i++) {
        if (!t.list[i].length) {
            write_symbol(&w, &literal, t.list[i].value);
            continue;
        }
        write_symbol(&w, &literal, FIRST_LENGTH + t.list[i].length - MIN_MATCH);
        write_symbol(&w, &distance, distance_class(t.list[i].value, &extra_bits, &extra));
        write_bits(&w, extra, extra_bits);
    }
    write_bits(&w, 0, 7);
    free(t.list);
    return out;
}

static void fail(struct reader *r, const char *why) {
    r->why = why;
    longjmp(r->failed, 1);
}

static unsigned read_bits(struct reader *r, int bits) {
    unsigned value = 0;
    while (bits--) {
        if (!r->bits) {
            if (r->at == r->size) fail(r, "cut short");
            r->held = r->data[r->at++];
            r->bits = 8;
        }
        value = value << 1 | (r->held >> --r->bits & 1);
    }
    return value;
}

static void read_lengths(struct reader *r, struct code *c, int count) {
    memset(c, 0, sizeof *c);
    c->count = count;
    unsigned long room = 0;
    for (int i = 0; i < count;) {
        unsigned n = read_bits(r, 4);
        if (n) {
            c->lengths[i++] = (uint8_t)n;
            room += 1ul << (MAX_BITS - n);
        } else {
            unsigned run = read_bits(r, 6);
            if (!run || i + (int)run > count) fail(r, "bad run");
            i += (int)run;
        }
    }
    if (room > 1ul << MAX_BITS) fail(r, "bad lengths");
    canonical(c);
}

static int read_symbol(struct reader *r, const struct code *c) {
    unsigned code = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        code = code << 1 | read_bits(r, 1);
        for (int i = 0; i < c->count; i++)
            if (c->lengths[i] == bits && c->bits[i] == code) return i;
    }
    fail(r, "bad code");
    return -1;
}

static struct bytes *decompress(const struct bytes *in, const char **why) {
    struct reader r = {.data = in->data, .size = in->size};
    struct bytes *volatile out = calloc(1, sizeof *out);
    if (setjmp(r.failed)) {
        *why = r.why;
        free(out->data);
        free(out);
        return NULL;
    }
    struct code literal, distance;
    uint32_t sum = read_bits(&r, 16) << 16;
    sum |= read_bits(&r, 16);
    read_lengths(&r, &literal, SYMBOLS);
    read_lengths(&r, &distance, DISTANCES);
    for (int symbol; (symbol = read_symbol(&r, &literal)) != END;) {
        if (symbol < END) {
            push(out, symbol);
            continue;
        }
        int length = symbol - FIRST_LENGTH + MIN_MATCH, class = read_symbol(&r, &distance);
        size_t back = class_distance(class, read_bits(&r, class_bits(class)));
        if (back > out->size) fail(&r, "bad distance");
        while (length--) push(out, out->data[out->size - back]);
    }
    if (checksum(out->data, out->size) != sum) fail(&r, "bad checksum");
    return out;
}

static uint32_t seed = 1;

static uint32_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static void noise(struct bytes *b, size_t n) {
    while (n--) push(b, (int)(next_random() >> 11 & 255));
}

static void zeros(struct bytes *b, size_t n) {
    while (n--) push(b, 0);
}

static void words(struct bytes *b, size_t n) {
    static const char *const list[] = {"the ", "compressor ", "finds ", "what ", "was ", "there ", "before, ", "again. "};
    while (b->size < n) for (const char *c = list[next_random() >> 9 & 7]; *c; c++) push(b, *c);
}

static void ramp(struct bytes *b, size_t n) {
    for (size_t i = 0; i < n; i++) push(b, (int)(i * i / 97));
}

static void steep(struct bytes *b, size_t n) {
    for (size_t i = 0; i < n; i++) push(b, __builtin_clz(next_random() | 1) * 3);
}

static void periodic(struct bytes *b, size_t n) {
    for (size_t i = 0; i < n; i++) push(b, i % 1000 == 0 ? (int)(i / 1000) : (int)(i % 7 * 31));
}

static const struct {
    const char *name;
    void (*make)(struct bytes *, size_t);
    size_t size;
} kinds[] = {{"nothing", noise, 0}, {"one", noise, 1}, {"noise", noise, 700}, {"zeros", zeros, 3000}, {"words", words, 4000},
             {"ramp", ramp, 2500}, {"steep", steep, 2000}, {"periodic", periodic, 6000}};

static int damage(const struct bytes *packed, const struct bytes *plain) {
    int found = 0;
    for (int i = 0; i < 8; i++) {
        struct bytes copy = {malloc(packed->size), packed->size, packed->size};
        memcpy(copy.data, packed->data, packed->size);
        if (i < 2) copy.size = copy.size / 2 + (size_t)i;
        else copy.data[next_random() % copy.size] ^= (uint8_t)(1 << i);
        const char *why = NULL;
        struct bytes *out = decompress(&copy, &why);
        /* The bits that only fill the last byte say nothing. */
        found += !out || (out->size == plain->size && !memcmp(out->data, plain->data, plain->size));
        if (out) free(out->data);
        free(out);
        free(copy.data);
    }
    return found;
}

int main(void) {
    int good = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct bytes plain = {0};
        kinds[i].make(&plain, kinds[i].size);
        struct bytes packed = compress(plain.data, plain.size);
        const char *why = "different";
        struct bytes *out = decompress(&packed, &why);
        int same = out && out->size == plain.size && (!plain.size || !memcmp(out->data, plain.data, plain.size));
        good += same;
        printf("%-9s %5zu %5zu %08x %s, damage found %d of 8\n", kinds[i].name, plain.size, packed.size,
               checksum(packed.data, packed.size), same ? "same" : why, damage(&packed, &plain));
        if (out) free(out->data);
        free(out);
        free(plain.data);
        free(packed.data);
    }
    printf("%d good\n", good);
    return good;
}
