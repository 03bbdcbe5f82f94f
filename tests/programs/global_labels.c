/* A constant global of blockaddresses, kept in a struct with other data, that several activations share. */
#include <stdio.h>

static int machine(const char *text, int depth) {
    struct state { void *const next[3]; const char *name; };
    static const struct state states[] = {
        {{&&word, &&space, &&end}, "word"}, {{&&word, &&space, &&end}, "space"}, {{&&end, &&end, &&end}, "end"}};
    const struct state *now = &states[1];
    int words = 0;
    goto dispatch;
word:
    words += now == &states[1];
    now = &states[0];
    if (*text == '(' && depth < 3) words += 100 * machine(text + 1, depth + 1);
    text++;
    goto dispatch;
space:
    now = &states[1];
    text++;
dispatch:
    goto *now->next[*text == 0 ? 2 : *text == ' '];
end:
    printf("%d:%s ", depth, now->name);
    return words;
}

int main(void) {
    const char *texts[] = {"", "one", " two words", "a (b c (d e f) g) h ", "((((x y"};
    for (int i = 0; i < 5; i++) printf("%d\n", machine(texts[i], 0));
    return 0;
}
