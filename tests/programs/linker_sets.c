/* Sets that the linker makes: a section of one's own, of constants and of variables, from its start to its stop. */
#include <stdio.h>

struct item { const char *name; int value; };
#define ITEM(n, v) static const struct item n __attribute__((section("items"), used)) = {#n, v}
ITEM(first, 1);
ITEM(second, 20);
static int alone __attribute__((section("counters"))) = 7;
ITEM(third, 300);
int counted __attribute__((section("counters"))) = 8;
static char odd __attribute__((section("mixed"), used)) = 'a';
static long even __attribute__((section("mixed"), used)) = 40;
static int zero __attribute__((section("mixed"), used));
extern const struct item __start_items[], __stop_items[];
extern int __start_counters[], __stop_counters[];
extern char __start_mixed[], __stop_mixed[];
extern int __start_nothing[] __attribute__((weak)), __stop_nothing[] __attribute__((weak));
static const struct item *const last = __stop_items - 1;

int main(void) {
    int sum = 0;
    for (const struct item *i = __start_items; i != __stop_items; i++) printf("%s %d\n", i->name, i->value);
    alone++;
    counted += 2;
    for (int *i = __start_counters; i < __stop_counters; i++) sum = sum * 100 + *i;
    printf("%d %s\n", sum, last->name);
    printf("%d %d %d\n", (int)(__stop_mixed - __start_mixed), odd, (int)even + zero);
    printf("%d %d\n", __start_nothing == 0, __stop_nothing == 0);
    return 0;
}
