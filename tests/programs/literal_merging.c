/* Equal literals in many functions: returned, stored, compared by content, tails of each other, wide, and compound. */
#include <stdio.h>
#include <string.h>
#include <wchar.h>

static const char *one(void) { return "common text"; }
static const char *two(void) { return "common text"; }
static const char *tail(void) { return "text"; }
static const char *split(void) { return "common " "text"; }
static const char *with_nul(void) { return "common\0text"; }
static const wchar_t *wide(void) { return L"common text"; }
static const unsigned short *utf16(void) { return (const unsigned short *)u"sixteen"; }
static const int first[] = {1, 2, 3};
static const int *numbers(int n) { static const int other[] = {4, 5, 6}; return n ? first : other; }
static const char *function(void) { return __func__; }
static const char *kept[6];
static void keep(void) { kept[0] = one(); kept[1] = two(); kept[2] = tail(); kept[3] = split(); kept[4] = with_nul(); kept[5] = function(); }

int main(void) {
    keep();
    for (int i = 0; i < 6; i++) printf("%s %zu %d%d\n", kept[i], strlen(kept[i]), !strcmp(kept[i], one()), kept[i] == kept[i]);
    printf("%s %ls %d %d\n", kept[4] + 7, wide(), utf16()[3], numbers(1)[2] + numbers(0)[0]);
    const char *before = one();
    for (int i = 0; i < 50; i++) if (one() != before || function() != kept[5]) return 1;
    return 0;
}
