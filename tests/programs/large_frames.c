/* Frames of many pages, which must be touched in order, with and without -fstack-clash-protection's probes. */
#include <stdio.h>
#include <string.h>

static unsigned sum(const unsigned char *p, unsigned n) { unsigned s = 0; while (n--) s = s * 3 + *p++; return s; }
static unsigned pages(int by) { unsigned char room[100000]; memset(room, by, sizeof room); room[50000] = 1; return sum(room, sizeof room); }
static unsigned one(int by) { unsigned char room[4096]; memset(room, by, sizeof room); return sum(room, sizeof room); }
static unsigned nested(int n) {
    volatile unsigned char room[9000];
    room[0] = room[4500] = room[8999] = (unsigned char)n;
    return n ? nested(n - 1) + room[0] + room[4500] + room[8999] : 0;
}
static unsigned last_only(int n) { volatile char room[60000]; room[0] = (char)n; return (unsigned)room[0]; }

int main(void) {
    for (int i = 0; i < 4; i++) printf("%u %u %u %u\n", pages(i), one(i), nested(i * 10), last_only(i));
    return 0;
}
