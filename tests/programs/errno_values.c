/* errno: set by libc, kept across calls of the program's own functions, saved and restored. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int noise(int x) { return x * x + 1; }
static int fails(int how) {
    errno = 0;
    switch (how) {
    case 0: close(-1); break;
    case 1: fopen("/nonexistent/file", "r"); break;
    case 2: strtol("99999999999999999999", NULL, 10); break;
    case 3: { volatile double d = -1; d = sqrt(d); break; }
    case 4: read(0, (void *)1, (size_t)-1 >> 1); break;
    default: errno = how;
    }
    return errno;
}
static int kept(int value) {
    errno = value;
    int sum = 0;
    for (int i = 0; i < 20; i++) sum += noise(i);
    return errno == value ? sum : -1;
}
static const char *described(int code) { int saved = errno; const char *text = strerror(code); errno = saved; return text; }

int main(void) {
    for (int i = 0; i < 7; i++) {
        if (i == 4) continue;
        int code = fails(i);
        printf("%d %s\n", code, described(code));
    }
    printf("%d %d\n", kept(11), kept(12));
    errno = 5;
    return errno + (&errno == __errno_location());
}
