/* Function pointers in structs as C writes classes: constructors, overridden operations, compared and swapped. */
#include <stdio.h>
#include <stdlib.h>

struct shape;
struct operations { const char *name; double (*area)(const struct shape *); void (*scale)(struct shape *, double); };
struct shape { const struct operations *do_; double a, b; };

static double product(const struct shape *s) { return s->a * s->b; }
static double circle(const struct shape *s) { return 3 * s->a * s->a; }
static double half(const struct shape *s) { return product(s) / 2; }
static void both(struct shape *s, double by) { s->a *= by; s->b *= by; }
static void one(struct shape *s, double by) { s->a *= by; }
static const struct operations rectangles = {"rectangle", product, both}, circles = {"circle", circle, one},
                               triangles = {"triangle", half, both};
static const struct operations *const kinds[] = {&rectangles, &circles, &triangles};
static struct shape *make(int kind, double a, double b) {
    struct shape *s = malloc(sizeof *s);
    *s = (struct shape){kinds[kind % 3], a, b};
    return s;
}
static int scales_alike(const struct shape *s, const struct shape *t) { return s->do_->scale == t->do_->scale; }

int main(void) {
    struct shape *shapes[9];
    for (int i = 0; i < 9; i++) shapes[i] = make(i, i + 1, i + 2);
    struct operations odd = {"odd", shapes[0]->do_->area, one};
    shapes[3]->do_ = &odd;
    for (int i = 0; i < 9; i++) {
        shapes[i]->do_->scale(shapes[i], 1.5);
        printf("%s %g %d%d\n", shapes[i]->do_->name, shapes[i]->do_->area(shapes[i]), scales_alike(shapes[i], shapes[0]),
               shapes[i]->do_->area == product);
    }
    for (int i = 0; i < 9; i++) free(shapes[i]);
    return 0;
}
