// Virtual functions without any library: overriding, abstract bases by hand, tables compared, calls in constructors.
extern "C" int printf(const char *, ...);

struct animal {
    int legs;
    explicit animal(int legs) : legs(legs) { announce(); }
    virtual const char *name() const { return "animal"; }
    virtual int speed() const { return legs * 10; }
    void announce() const { printf("made %s\n", name()); }
};
struct dog : animal {
    dog() : animal(4) { announce(); }
    const char *name() const override { return "dog"; }
};
struct bird : animal {
    int wings;
    explicit bird(int wings) : animal(2), wings(wings) {}
    const char *name() const override { return "bird"; }
    int speed() const override { return animal::speed() + wings * 100; }
    virtual int height() const { return wings * 7; }
};
struct penguin final : bird {
    penguin() : bird(2) {}
    int speed() const override { return 3; }
    int height() const override { return 0; }
};
static int total(const animal *const *list, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum = sum * 3 + list[i]->speed();
    return sum;
}
static int fly(const bird &b) { return b.height(); }

int main() {
    dog d;
    bird b(2);
    penguin p;
    const animal *list[] = {&d, &b, &p, &d};
    for (const animal *a : list) printf("%s %d\n", a->name(), a->speed());
    int (animal::*member)() const = &animal::speed;
    printf("%d %d %d %d\n", total(list, 4), fly(b), fly(p), (list[1]->*member)());
    return (d.*member)();
}
