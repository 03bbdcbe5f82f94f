/* Functions of the program called by libc: qsort, bsearch, tsearch, and through a type of its own. */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct person { const char *name; int age; };
static struct person people[] = {{"Ada", 36}, {"Grace", 85}, {"Alan", 41}, {"Edsger", 72}, {"Barbara", 84}};
enum { PEOPLE = sizeof people / sizeof *people };
static int compared;

static int by_name(const void *a, const void *b) {
    compared++;
    return strcmp(((const struct person *)a)->name, ((const struct person *)b)->name);
}
static int by_age(const void *a, const void *b) {
    return ((const struct person *)a)->age - ((const struct person *)b)->age;
}
static int (*const orders[])(const void *, const void *) = {by_name, by_age};

static int numeric(const void *a, const void *b) { return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b); }
static void visit(const void *node, VISIT when, int depth) {
    (void)depth;
    if (when == postorder || when == leaf) printf("%d ", **(int *const *)node);
}

int main(void) {
    for (int order = 0; order < 2; order++) {
        qsort(people, PEOPLE, sizeof *people, orders[order]);
        for (int i = 0; i < PEOPLE; i++) printf("%s %d, ", people[i].name, people[i].age);
        struct person wanted = people[3];
        struct person *found = bsearch(&wanted, people, PEOPLE, sizeof *people, orders[order]);
        printf("found %s at %td\n", found->name, found - people);
    }
    printf("%s\n", compared > 4 ? "compared" : "?");
    int numbers[200];
    unsigned seed = 1;
    for (int i = 0; i < 200; i++) numbers[i] = (int)((seed = seed * 1103515245 + 12345) >> 16 & 1023);
    qsort(numbers, 200, sizeof(int), numeric);
    long sum = 0;
    for (int i = 0; i < 200; i++) sum = sum * 31 % 1000007 + numbers[i];
    printf("%ld\n", sum);
    void *root = 0;
    for (int i = 0; i < 10; i++) tsearch(&numbers[i * 20], &root, numeric);
    twalk(root, visit);
    printf("\n");
    return 0;
}
