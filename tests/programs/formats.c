/* What printf, scanf and their kin can do. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static void integers(long value) {
    printf("[%ld|%6ld|%-6ld|%+ld|%06ld|%lx|%#lo|%hhd]\n", value, value, value, value, value, value, value, (signed char)value);
}
static void reals(double value) {
    printf("[%f|%.0f|%e|%g|%a|%10.3f|%-10.2e|%Lf]\n", value, value, value, value, value, value, value, (long double)value);
}

int main(void) {
    long numbers[] = {0, 1, -1, 42, -99999, 1234567};
    for (int i = 0; i < 6; i++) integers(numbers[i]);
    double values[] = {0, 1, -2.5, 1e100, 1.0 / 3, 6.02e23};
    for (int i = 0; i < 6; i++) reals(values[i]);
    printf("%s %.3s %10s %-10s| %c%c %% %p %zu %jd %td\n", "text", "truncated", "right", "left", 'o', 'k', (void *)0,
           sizeof(long), (intmax_t)-5, (ptrdiff_t)7);
    printf("%*d %.*f %" PRIu64 " %ls\n", 8, 5, 2, 3.14159, UINT64_MAX, L"wide");
    int a, n; double d; char word[16];
    n = sscanf("17 2.5 hello", "%d %lf %15s", &a, &d, word);
    printf("%d: %d %g %s %ld %g\n", n, a, d, word, strtol("0x1f", 0, 0), atof("1e-3"));
    puts("puts"); putchar('c'); fputs(" fputs\n", stdout); fprintf(stdout, "done\n");
    fwrite("raw\n", 1, 4, stdout);
    return 0;
}
