/* Bit fields of all widths and signs, zero width, in a union with bytes, assigned in chains. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct header { uint8_t version : 4, length : 4; uint8_t flags; uint16_t : 0; uint32_t id : 20, offset : 12; int64_t delta : 41; };
struct signs { int a : 1, b : 2, c : 3; unsigned d : 31; long e : 63; };
union raw { struct header h; unsigned char bytes[sizeof(struct header)]; };
static struct signs global = {-1, 1, 3, 0x7fffffff, -5};

static void change(struct signs *s, int by) { s->a += by; s->b -= by; s->c ^= by; s->d = s->d + (unsigned)by; s->e *= by; }
static unsigned checksum(const union raw *r) { unsigned sum = 0; for (size_t i = 0; i < sizeof r->bytes; i++) sum = sum * 17 + r->bytes[i]; return sum; }
static struct header make(int v) { return (struct header){.version = (unsigned)v & 15, .length = 5, .flags = 0x80, .id = (unsigned)v * 1001 & 0xfffff, .offset = 0xabc, .delta = -v}; }

int main(void) {
    for (int i = 0; i < 6; i++) {
        union raw r;
        memset(&r, 0, sizeof r);
        r.h = make(i);
        change(&global, i);
        printf("%d %d %d %u %ld | %d %u %u %ld\n", global.a, global.b, global.c, global.d, (long)global.e, r.h.version, r.h.id,
               r.h.offset, (long)r.h.delta);
        r.h.delta += 1L << 40;
        r.h.id = r.h.offset = (unsigned)(r.h.length + i);
        struct header copy = r.h;
        memset(&r, 0, sizeof r);
        r.h.version = copy.version; r.h.length = copy.length; r.h.flags = copy.flags;
        r.h.id = copy.id; r.h.offset = copy.offset; r.h.delta = copy.delta;
        printf("%u %ld\n", checksum(&r), (long)r.h.delta);
    }
    return (int)sizeof(struct header);
}
