/* JSON: a parser with errors by line and column, values in a tree, queries by path, a printer in two forms, equality,
   sorting of members, and round trips over generated documents. */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { NUL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT };

struct value;

struct member {
    char *name;
    struct value *value;
};

struct value {
    enum kind kind;
    union {
        double number;
        char *text;
        struct {
            size_t count, room;
            struct member *members;
        };
    };
};

struct buffer {
    char *bytes;
    size_t size, room;
};

struct parser {
    const char *start, *at;
    int depth;
    jmp_buf failed;
    const char *why;
};

static long allocated;

static void *allocate(size_t size) {
    allocated++;
    void *p = calloc(1, size);
    if (!p) abort();
    return p;
}

static void release(void *p) {
    if (p) allocated--;
    free(p);
}

static void append(struct buffer *b, const char *bytes, size_t n) {
    if (b->size + n + 1 > b->room) {
        b->room = (b->size + n + 1) * 2;
        b->bytes = realloc(b->bytes, b->room);
    }
    memcpy(b->bytes + b->size, bytes, n);
    b->size += n;
    b->bytes[b->size] = 0;
}

static void append_text(struct buffer *b, const char *text) {
    append(b, text, strlen(text));
}

static void append_char(struct buffer *b, int c) {
    char one = (char)c;
    append(b, &one, 1);
}

static struct value *make(enum kind kind) {
    struct value *v = allocate(sizeof *v);
    v->kind = kind;
    return v;
}

static void destroy(struct value *v) {
    if (!v) return;
    if (v->kind == STRING) release(v->text);
    if (v->kind == ARRAY || v->kind == OBJECT) {
        for (size_t i = 0; i < v->count; i++) {
            release(v->members[i].name);
            destroy(v->members[i].value);
        }
        free(v->members);
    }
    release(v);
}

static void add(struct value *to, char *name, struct value *value) {
    if (to->count == to->room) {
        to->room = to->room ? to->room * 2 : 2;
        to->members = realloc(to->members, to->room * sizeof *to->members);
    }
    to->members[to->count++] = (struct member){name, value};
}

static char *copy_text(const char *text) {
    return strcpy(allocate(strlen(text) + 1), text);
}

static void fail(struct parser *p, const char *why) {
    p->why = why;
    longjmp(p->failed, 1);
}

static void skip(struct parser *p) {
    while (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r') p->at++;
}

static void expect(struct parser *p, char c, const char *why) {
    skip(p);
    if (*p->at != c) fail(p, why);
    p->at++;
}

static int accept(struct parser *p, char c) {
    skip(p);
    if (*p->at != c) return 0;
    p->at++;
    return 1;
}

static unsigned hex4(struct parser *p) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        int c = *p->at++;
        if (!isxdigit((unsigned char)c)) fail(p, "four hexadecimal digits expected");
        code = code * 16 + (unsigned)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return code;
}

static void append_code(struct buffer *b, unsigned c) {
    if (c < 0x80) {
        append_char(b, (int)c);
    } else if (c < 0x800) {
        append_char(b, (int)(0xc0 | c >> 6));
        append_char(b, (int)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        append_char(b, (int)(0xe0 | c >> 12));
        append_char(b, (int)(0x80 | (c >> 6 & 63)));
        append_char(b, (int)(0x80 | (c & 63)));
    } else {
        append_char(b, (int)(0xf0 | c >> 18));
        append_char(b, (int)(0x80 | (c >> 12 & 63)));
        append_char(b, (int)(0x80 | (c >> 6 & 63)));
        append_char(b, (int)(0x80 | (c & 63)));
    }
}

static void parse_escape(struct parser *p, struct buffer *b) {
    unsigned code;
    switch (*p->at++) {
    case 'n': append_char(b, '\n'); break;
    case 't': append_char(b, '\t'); break;
    case 'r': append_char(b, '\r'); break;
    case 'b': append_char(b, '\b'); break;
    case 'f': append_char(b, '\f'); break;
    case '"': append_char(b, '"'); break;
    case '/': append_char(b, '/'); break;
    case '\\': append_char(b, '\\'); break;
    case 'u':
        code = hex4(p);
        if (code >= 0xd800 && code < 0xdc00 && p->at[0] == '\\' && p->at[1] == 'u') {
            p->at += 2;
            code = 0x10000 + ((code - 0xd800) << 10) + (hex4(p) - 0xdc00);
        }
        append_code(b, code);
        break;
    default: p->at--; fail(p, "unknown escape");
    }
}

static struct buffer scratch;

static char *parse_text(struct parser *p) {
    expect(p, '"', "text expected");
    scratch.size = 0;
    append(&scratch, "", 0);
    while (*p->at != '"') {
        if (!*p->at) fail(p, "text without end");
        if (*p->at == '\\') {
            p->at++;
            parse_escape(p, &scratch);
        } else {
            append_char(&scratch, *p->at++);
        }
    }
    p->at++;
    return copy_text(scratch.bytes);
}

static struct value *parse_value(struct parser *p, struct value **slot);

static void parse_list(struct parser *p, struct value *list, char close) {
    if (++p->depth > 40) fail(p, "nested too deep");
    if (!accept(p, close)) {
        do {
            char *name = NULL;
            if (close == '}') {
                name = parse_text(p);
                add(list, name, NULL);
                expect(p, ':', "colon expected");
            } else {
                add(list, NULL, NULL);
            }
            struct value *element;
            parse_value(p, &element);
            list->members[list->count - 1].value = element;
        } while (accept(p, ','));
        expect(p, close, close == ']' ? "comma or ] expected" : "comma or } expected");
    }
    p->depth--;
}

static int literal(struct parser *p, const char *word) {
    size_t n = strlen(word);
    if (strncmp(p->at, word, n)) return 0;
    p->at += n;
    return 1;
}

/* Values on the way are in reach of the parser's root, to be freed when it fails. */
static struct value *rooted[64];
static int roots;

static struct value *parse_value(struct parser *p, struct value **slot) {
    skip(p);
    struct value *v = NULL;
    if (*p->at == '{' || *p->at == '[') {
        int object = *p->at++ == '{';
        v = make(object ? OBJECT : ARRAY);
        rooted[roots++] = v;
        parse_list(p, v, object ? '}' : ']');
        roots--;
    } else if (*p->at == '"') {
        char *text = parse_text(p);
        v = make(STRING);
        v->text = text;
    } else if (*p->at == '-' || isdigit((unsigned char)*p->at)) {
        char *end;
        double number = strtod(p->at, &end);
        p->at = end;
        v = make(NUMBER);
        v->number = number;
    } else if (literal(p, "true")) {
        v = make(TRUE);
    } else if (literal(p, "false")) {
        v = make(FALSE);
    } else if (literal(p, "null")) {
        v = make(NUL);
    } else {
        fail(p, "value expected");
    }
    return *slot = v;
}

static struct value *parse(const char *text) {
    struct parser p = {.start = text, .at = text};
    struct value *volatile result = NULL;
    roots = 0;
    if (setjmp(p.failed)) {
        int line = 1, column = 1;
        for (const char *c = p.start; c < p.at; c++) {
            column++;
            if (*c == '\n') { line++; column = 1; }
        }
        printf("%d:%d: %s\n", line, column, p.why);
        while (roots) destroy(rooted[--roots]);
        destroy(result);
        return NULL;
    }
    struct value *v;
    parse_value(&p, &v);
    result = v;
    skip(&p);
    if (*p.at) fail(&p, "more than one value");
    return result;
}

static void print_text(struct buffer *b, const char *text) {
    append_char(b, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') append_char(b, '\\');
        if (c >= 32) append_char(b, c);
        else if (c == '\n') append_text(b, "\\n");
        else if (c == '\t') append_text(b, "\\t");
        else { char code[8]; snprintf(code, sizeof code, "\\u%04x", c); append_text(b, code); }
    }
    append_char(b, '"');
}

static void line(struct buffer *b, int indent) {
    if (indent < 0) return;
    append_char(b, '\n');
    while (indent--) append_text(b, "  ");
}

static void print(struct buffer *b, const struct value *v, int indent) {
    static const char *const words[] = {"null", "false", "true"};
    char number[40];
    switch (v->kind) {
    case NUL: case FALSE: case TRUE: append_text(b, words[v->kind]); break;
    case NUMBER:
        snprintf(number, sizeof number, v->number == floor(v->number) && fabs(v->number) < 1e15 ? "%.0f" : "%.17g", v->number);
        append_text(b, number);
        break;
    case STRING: print_text(b, v->text); break;
    case ARRAY: case OBJECT: {
        int inner = indent < 0 ? -1 : indent + 1;
        append_char(b, v->kind == ARRAY ? '[' : '{');
        for (size_t i = 0; i < v->count; i++) {
            if (i) append_char(b, ',');
            line(b, inner);
            if (v->kind == OBJECT) {
                print_text(b, v->members[i].name);
                append_text(b, indent < 0 ? ":" : ": ");
            }
            print(b, v->members[i].value, inner);
        }
        if (v->count) line(b, indent);
        append_char(b, v->kind == ARRAY ? ']' : '}');
    }
    }
}

static int equal(const struct value *a, const struct value *b) {
    if (a->kind != b->kind) return 0;
    if (a->kind == NUMBER) return a->number == b->number;
    if (a->kind == STRING) return !strcmp(a->text, b->text);
    if (a->kind < NUMBER) return 1;
    if (a->count != b->count) return 0;
    for (size_t i = 0; i < a->count; i++) {
        if (a->kind == OBJECT && strcmp(a->members[i].name, b->members[i].name)) return 0;
        if (!equal(a->members[i].value, b->members[i].value)) return 0;
    }
    return 1;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name);
}

static void walk(struct value *v, void (*visit)(struct value *, void *), void *data) {
    visit(v, data);
    if (v->kind == ARRAY || v->kind == OBJECT)
        for (size_t i = 0; i < v->count; i++) walk(v->members[i].value, visit, data);
}

static void sort_members(struct value *v, void *unused) {
    (void)unused;
    if (v->kind == OBJECT && v->count) qsort(v->members, v->count, sizeof *v->members, by_name);
}

static void add_numbers(struct value *v, void *sum) {
    if (v->kind == NUMBER) *(double *)sum += v->number;
}

static void count_kinds(struct value *v, void *counts) {
    ((int *)counts)[v->kind]++;
}

static const struct value *query(const struct value *v, const char *path) {
    while (v && *path) {
        size_t n = strcspn(path, "."), i = 0;
        if (v->kind == ARRAY) {
            i = (size_t)atoi(path);
        } else if (v->kind == OBJECT) {
            while (i < v->count && (strncmp(v->members[i].name, path, n) || v->members[i].name[n])) i++;
        } else {
            return NULL;
        }
        v = i < v->count ? v->members[i].value : NULL;
        path += n + (path[n] == '.');
    }
    return v;
}

static unsigned seed = 2463534242u;

static unsigned random_below(unsigned limit) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % limit;
}

static struct value *generate(int depth) {
    struct value *v = make((enum kind)random_below(depth > 0 ? 7 : 5));
    char text[24];
    switch (v->kind) {
    case NUMBER: v->number = (double)random_below(100000) / (random_below(3) ? 1 : 64) - 500; break;
    case STRING:
        for (unsigned i = 0, n = random_below(12); i <= n; i++) { text[i] = (char)(1 + random_below(126)); text[i + 1] = 0; }
        v->text = copy_text(text);
        break;
    case ARRAY: case OBJECT:
        for (unsigned i = 0, n = random_below(6); i < n; i++) {
            snprintf(text, sizeof text, "key%u", random_below(1000));
            add(v, v->kind == OBJECT ? copy_text(text) : NULL, generate(depth - 1));
        }
    default: break;
    }
    return v;
}

static unsigned checksum(const struct buffer *b) {
    unsigned sum = 5381;
    for (size_t i = 0; i < b->size; i++) sum = sum * 33 ^ (unsigned char)b->bytes[i];
    return sum;
}

static int round_trip(int depth) {
    struct value *v = generate(depth);
    struct buffer flat = {0}, pretty = {0};
    int counts[7] = {0};
    double sum = 0;
    print(&flat, v, -1);
    print(&pretty, v, 0);
    struct value *again = parse(flat.bytes), *third = parse(pretty.bytes);
    walk(v, count_kinds, counts);
    walk(v, add_numbers, &sum);
    int same = again && third && equal(v, again) && equal(again, third);
    printf("%u %zu %u %d %.6g", checksum(&flat), pretty.size, checksum(&pretty), same, sum);
    for (int i = 0; i < 7; i++) printf(" %d", counts[i]);
    printf("\n");
    destroy(v);
    destroy(again);
    destroy(third);
    free(flat.bytes);
    free(pretty.bytes);
    return same;
}

static void show(const char *text) {
    struct value *v = parse(text);
    if (!v) return;
    struct buffer out = {0};
    walk(v, sort_members, NULL);
    print(&out, v, 0);
    printf("%s\n", out.bytes);
    free(out.bytes);
    destroy(v);
}

int main(void) {
    show("{\"name\": \"text \\u00e9 \\ud83d\\ude00 \\\"q\\\" \\n\", \"list\": [1, -2.5e3, true, null, [], {}], \"a\": {\"z\": 1, \"b\": 2}}");
    show("[1, 2\n, 3 4]");
    show("{\"open\": [1, {\"deep\": \"no end}");
    show("[\"bad \\x escape\"]");
    show("{\"a\" 1}");
    show("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]");
    show("");
    show("nul");
    show("[] []");
    struct value *v = parse("{\"shop\": {\"items\": [{\"name\": \"pen\", \"price\": 1.25}, {\"name\": \"ink\", \"price\": 7}]}}");
    const char *paths[] = {"shop.items.1.name", "shop.items.0.price", "shop.items.2", "shop.item", "shop.items"};
    for (int i = 0; i < 5; i++) {
        const struct value *found = query(v, paths[i]);
        struct buffer out = {0};
        if (found) print(&out, found, -1);
        printf("%s = %s\n", paths[i], found ? out.bytes : "nothing");
        free(out.bytes);
    }
    destroy(v);
    int same = 0;
    for (int i = 0; i < 12; i++) same += round_trip(2 + i % 4);
    free(scratch.bytes);
    printf("%d %s\n", same, allocated >= 0 ? "counted" : "?");
    return same;
}
