// Several bases, virtual ones among them: adjusted pointers, thunks, covariant results, destruction through any base.
#include <cstdio>
#include <memory>

struct named { virtual ~named() { std::puts("~named"); } virtual const char *name() const = 0; };
struct counted { int count = 0; virtual ~counted() { std::printf("~counted %d\n", count); } virtual void add(int n) { count += n; } virtual counted *self() { return this; } };
struct root { int value; explicit root(int v) : value(v) {} virtual ~root() { std::printf("~root %d\n", value); } virtual int get() const { return value; } };
struct left : virtual root { left() : root(1) {} int get() const override { return value * 10; } };
struct right : virtual root { right() : root(2) {} int more = 5; virtual int both() const { return get() + more; } };
struct diamond : left, right, named, counted {
    diamond() : root(7) {}
    int get() const override { return left::get() + 3; }
    const char *name() const override { return "diamond"; }
    void add(int n) override { counted::add(n * 2); }
    diamond *self() override { return this; }
    ~diamond() override { std::puts("~diamond"); }
};
static int use(root &r) { return r.get(); }
static const char *use(const named &n) { return n.name(); }
static void use(counted &c) { c.add(3); c.self()->add(4); }

int main() {
    auto d = std::make_unique<diamond>();
    use(static_cast<counted &>(*d));
    right *r = d.get();
    named *n = d.get();
    std::printf("%d %s %d %d %d\n", use(static_cast<left &>(*d)), use(*n), r->both(), d->count, static_cast<void *>(r) != static_cast<void *>(n));
    std::unique_ptr<counted> through(d.release());
    left alone;
    return alone.get() + use(alone);
}
