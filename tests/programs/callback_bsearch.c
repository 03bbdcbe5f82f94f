/* bsearch and lfind with callbacks that call on: keys of another type than the elements. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct month { const char *name; int days; };
static const struct month months[] = {{"Apr", 30}, {"Aug", 31}, {"Dec", 31}, {"Feb", 28}, {"Jan", 31}, {"Jul", 31},
                                      {"Jun", 30}, {"Mar", 31}, {"May", 31}, {"Nov", 30}, {"Oct", 31}, {"Sep", 30}};
static int steps;
static int count(int result) { steps++; return result; }
static int by_name(const void *key, const void *month) { return count(strcmp(key, ((const struct month *)month)->name)); }
static int same_days(const void *key, const void *month) { return *(const int *)key != ((const struct month *)month)->days; }

int main(void) {
    const char *keys[] = {"Jan", "Sep", "Apr", "Xyz", "", "Jul"};
    for (int i = 0; i < 6; i++) {
        const struct month *m = bsearch(keys[i], months, 12, sizeof *months, by_name);
        printf("%s %d %td\n", keys[i], m ? m->days : -1, m ? m - months : -1);
    }
    size_t size = 12;
    for (int days = 28; days < 32; days++) {
        struct month *m = lfind(&days, months, &size, sizeof *months, same_days);
        printf("%d %s\n", days, m ? m->name : "none");
    }
    printf("%d\n", steps > 10);
    return 0;
}
