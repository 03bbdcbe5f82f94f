/* `used` keeps what nothing refers to; a section of its own, `retain`, and constants that only a linker would want. */
#include <stdio.h>

__attribute__((used)) static int kept(int x) { return x + 1; }
__attribute__((used)) static int counter = 3;
__attribute__((used, section("notes"))) static const char version[] = "version 1";
__attribute__((used, retain)) static int also(void) { return counter++; }
static int plain(int x) { return kept(x) + also(); }
__attribute__((used)) static int (*pointer)(int) = plain;

int main(void) {
    printf("%d %d %s\n", plain(1), pointer(2), version);
    return counter;
}
