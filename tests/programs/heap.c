/* A hash table and lists on the heap, with pointers to functions in them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry { struct entry *next; char *key; long count; void (*show)(const struct entry *); };
static struct entry *buckets[31];
static int entries;

static void plain(const struct entry *e) { printf("%s=%ld ", e->key, e->count); }
static void loud(const struct entry *e) { for (const char *c = e->key; *c; c++) putchar(toupper((unsigned char)*c)); printf("=%ld ", e->count); }
static unsigned hash(const char *s) { unsigned h = 5381; while (*s) h = h * 33 ^ (unsigned char)*s++; return h; }
static struct entry *find(const char *key) {
    struct entry **at = &buckets[hash(key) % 31];
    for (; *at; at = &(*at)->next) if (!strcmp((*at)->key, key)) return *at;
    *at = calloc(1, sizeof **at);
    (*at)->key = strdup(key);
    (*at)->show = ++entries % 3 ? plain : loud;
    return *at;
}
static int by_key(const void *a, const void *b) { return strcmp((*(struct entry *const *)a)->key, (*(struct entry *const *)b)->key); }

int main(void) {
    char text[] = "the cache keeps what the program calls and the program calls what the cache keeps till the end of the program";
    for (char *word = strtok(text, " "); word; word = strtok(0, " ")) find(word)->count++;
    struct entry **all = malloc((size_t)entries * sizeof *all);
    int n = 0;
    for (int i = 0; i < 31; i++) for (struct entry *e = buckets[i]; e; e = e->next) all[n++] = e;
    qsort(all, (size_t)n, sizeof *all, by_key);
    for (int i = 0; i < n; i++) all[i]->show(all[i]);
    for (int i = 0; i < n; i++) { free(all[i]->key); free(all[i]); }
    free(all);
    printf("\n%d\n", n);
    return n;
}
