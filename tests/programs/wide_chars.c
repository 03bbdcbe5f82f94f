/* Wide characters: literals, libc's functions on them, callbacks that take them, conversion by locale C.UTF-8. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <uchar.h>
#include <wchar.h>
#include <wctype.h>

static const wchar_t *const words[] = {L"pear", L"apple", L"\u00e4pfel", L"fig"};
static const char32_t codes[] = U"\U0001F600 ok";
static int by_wide(const void *a, const void *b) { return wcscmp(*(wchar_t *const *)a, *(wchar_t *const *)b); }
static wint_t shout(wint_t c) { return towupper(c); }
static size_t apply(wchar_t *text, wint_t (*f)(wint_t)) { size_t n = 0; for (; *text; text++, n++) *text = (wchar_t)f((wint_t)*text); return n; }

int main(void) {
    printf("%d\n", setlocale(LC_ALL, "C.UTF-8") != NULL);
    const wchar_t *sorted[4];
    wmemcpy((wchar_t *)sorted, (const wchar_t *)words, sizeof words / sizeof(wchar_t));
    qsort(sorted, 4, sizeof *sorted, by_wide);
    for (int i = 0; i < 4; i++) {
        wchar_t copy[16];
        wcscpy(copy, sorted[i]);
        printf("%ls %zu %ls\n", copy, apply(copy, shout), copy);
    }
    char bytes[16];
    size_t n = wcstombs(bytes, words[2], sizeof bytes);
    printf("%zu %x %zu %x %zu\n", n, (unsigned char)bytes[1], sizeof codes / sizeof *codes, (unsigned)codes[0], wcslen(L"four"));
    wchar_t text[32];
    swprintf(text, 32, L"%d-%ls", 42, L"wide");
    printf("%ls %ld\n", text, wcstol(L"0x20", NULL, 0));
    return 0;
}
