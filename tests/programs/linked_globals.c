/* Globals that point to globals, into them, to functions, to libc's variables; lists and trees made by the compiler. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct item { int value; struct item *next; int (*weigh)(const struct item *); };
static int light(const struct item *i) { return i->value; }
static int heavy(const struct item *i) { return i->value * 100; }
static struct item c = {3, 0, light}, b = {2, &c, heavy}, a = {1, &b, light};
static struct item *const head = &a;
static struct item ring[3] = {{7, &ring[1], heavy}, {8, &ring[2], light}, {9, &ring[0], 0}};
static int numbers[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
static int *middle = &numbers[5], **pointer = &middle;
static char *const names[] = {"first", "second", 0};
static FILE **out = &stdout;
extern char **environ;
static char ***environment = &environ;
static int *(*error)(void) = __errno_location;
static void *self = &self;
int weak_one(void) __attribute__((weak));
int weak_two(void) __attribute__((weak));
int weak_two(void) { return 22; }
static int aliased(int x) { return x + 1000; }
int other_name(int) __attribute__((alias("aliased")));
extern int same_numbers[10] __attribute__((alias("numbers")));
__attribute__((section("elsewhere"))) int placed = 5;
__attribute__((visibility("hidden"))) int hidden = 6;

static int total(const struct item *i, int limit) {
    int sum = 0;
    for (; i && limit--; i = i->next) sum += i->weigh ? i->weigh(i) : -1;
    return sum;
}

int main(void) {
    fprintf(*out, "%d %d %d\n", total(head, 10), total(ring, 7), **pointer);
    middle++;
    (*pointer)[1] = 60;
    errno = 33;
    printf("%d %d %s %d %d %d\n", numbers[7], *error(), names[1], names[2] == 0, self == (void *)&self, *environment == environ);
    printf("%d %d %d %d %d %d\n", weak_one == 0, weak_two ? weak_two() : 0, other_name(1), same_numbers[7], placed, hidden);
    return 0;
}
