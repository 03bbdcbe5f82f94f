/* Functions found by name at run time, of libraries that the program opens itself. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static double (*find(void *library, const char *name))(double) { double (*f)(double); void *p = dlsym(library, name); memcpy(&f, &p, sizeof f); return f; }
static double twice(double (*f)(double), double x) { return f(f(x)); }

int main(void) {
    void *maths = dlopen("libm.so.6", RTLD_NOW);
    if (!maths) return 1;
    const char *names[] = {"cos", "sqrt", "floor", "no_such_function"};
    for (int i = 0; i < 4; i++) {
        double (*f)(double) = find(maths, names[i]);
        if (f) printf("%s %.6f\n", names[i], twice(f, 2.5));
        else printf("%s %s\n", names[i], dlerror() ? "missing" : "?");
    }
    int (*say)(const char *);
    void *p = dlsym(RTLD_DEFAULT, "puts");
    memcpy(&say, &p, sizeof say);
    say("found");
    return dlclose(maths);
}
