// An inventory kept by commands in text: a hierarchy of items, expressions evaluated with exceptions for mistakes,
// matrices by templates for reports, transactions that are rolled back, and output by iostream.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace inventory {

// Mistakes: each knows how to tell itself.
class error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
    virtual const char *kind() const noexcept { return "error"; }
};

class syntax_error : public error {
    std::size_t column_;

public:
    syntax_error(const std::string &what, std::size_t column) : error(what), column_(column) {}
    const char *kind() const noexcept override { return "syntax"; }
    std::size_t column() const noexcept { return column_; }
};

class missing : public error {
public:
    explicit missing(const std::string &name) : error("no " + name) {}
    const char *kind() const noexcept override { return "missing"; }
};

class too_few final : public missing {
    int short_by_;

public:
    too_few(const std::string &name, int short_by) : missing(name + " left"), short_by_(short_by) {}
    const char *kind() const noexcept override { return "too few"; }
    int short_by() const noexcept { return short_by_; }
};

// Items: some are made of others.
class item {
    std::string name_;

protected:
    static inline int alive_ = 0;

public:
    explicit item(std::string name) : name_(std::move(name)) { ++alive_; }
    item(const item &) = delete;
    item &operator=(const item &) = delete;
    virtual ~item() { --alive_; }
    const std::string &name() const { return name_; }
    virtual double price() const = 0;
    virtual double weight() const = 0;
    virtual void show(std::ostream &out, int depth) const { out << std::string(static_cast<std::size_t>(depth) * 2, ' ') << name_; }
    static int alive() { return alive_; }
};

class part : public item {
    double price_, weight_;

public:
    part(std::string name, double price, double weight) : item(std::move(name)), price_(price), weight_(weight) {
        if (price < 0) throw std::invalid_argument("negative price");
    }
    double price() const override { return price_; }
    double weight() const override { return weight_; }
    void show(std::ostream &out, int depth) const override {
        item::show(out, depth);
        out << " at " << price_ << '\n';
    }
};

struct taxed {
    double rate = 0.25;
    virtual ~taxed() = default;
    virtual double tax() const = 0;
};

class assembly : public item, public taxed {
    std::vector<std::pair<std::shared_ptr<const item>, int>> parts_;

public:
    using item::item;
    void add(std::shared_ptr<const item> what, int count) { parts_.emplace_back(std::move(what), count); }
    double sum(double (item::*of)() const) const {
        return std::accumulate(parts_.begin(), parts_.end(), 0.0, [of](double s, const auto &p) { return s + ((*p.first).*of)() * p.second; });
    }
    double price() const override { return sum(&item::price) * 1.1; }
    double weight() const override { return sum(&item::weight); }
    double tax() const override { return price() * rate; }
    void show(std::ostream &out, int depth) const override {
        item::show(out, depth);
        out << ":\n";
        for (const auto &[what, count] : parts_) {
            out << count << 'x';
            what->show(out, depth + 1);
        }
    }
};

std::ostream &operator<<(std::ostream &out, const item &i) {
    i.show(out, 0);
    return out;
}

// Expressions over numbers and the names of items.
class expression {
    const std::string &text_;
    std::size_t at_ = 0;
    std::function<double(const std::string &)> lookup_;

    void skip() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }
    bool accept(char c) {
        skip();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    double sum() {
        double v = product();
        for (;;) {
            if (accept('+')) v += product();
            else if (accept('-')) v -= product();
            else return v;
        }
    }
    double product() {
        double v = power();
        for (;;) {
            if (accept('*')) {
                v *= power();
            } else if (accept('/')) {
                double by = power();
                if (by == 0) throw std::domain_error("division by zero");
                v /= by;
            } else {
                return v;
            }
        }
    }
    double power() {
        double base = unary();
        return accept('^') ? std::pow(base, power()) : base;
    }
    double unary() { return accept('-') ? -unary() : primary(); }
    double primary() {
        if (accept('(')) {
            double v = sum();
            if (!accept(')')) throw syntax_error("a parenthesis is left open", at_);
            return v;
        }
        skip();
        if (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) {
            std::size_t used = 0;
            double v = std::stod(text_.substr(at_), &used);
            at_ += used;
            return v;
        }
        std::string name;
        while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) name += text_[at_++];
        if (name.empty()) throw syntax_error("a value is missing", at_);
        return lookup_(name);
    }

public:
    expression(const std::string &text, std::function<double(const std::string &)> lookup) : text_(text), lookup_(std::move(lookup)) {}
    double value() {
        double v = sum();
        skip();
        if (at_ != text_.size()) throw syntax_error("something is left over", at_);
        return v;
    }
};

// Matrices whose sizes are known to the compiler.
template <class T, std::size_t R, std::size_t C> class matrix {
    T cells_[R][C]{};

public:
    matrix() = default;
    template <class F> explicit matrix(F fill) {
        for (std::size_t r = 0; r < R; ++r)
            for (std::size_t c = 0; c < C; ++c) cells_[r][c] = fill(r, c);
    }
    T &operator()(std::size_t r, std::size_t c) {
        if (r >= R || c >= C) throw std::out_of_range("matrix");
        return cells_[r][c];
    }
    const T &operator()(std::size_t r, std::size_t c) const { return const_cast<matrix &>(*this)(r, c); }
    template <std::size_t N> matrix<T, R, N> operator*(const matrix<T, C, N> &o) const {
        return matrix<T, R, N>([&](std::size_t r, std::size_t c) {
            T sum{};
            for (std::size_t k = 0; k < C; ++k) sum += cells_[r][k] * o(k, c);
            return sum;
        });
    }
    matrix<T, C, R> transposed() const {
        return matrix<T, C, R>([this](std::size_t r, std::size_t c) { return cells_[c][r]; });
    }
    friend std::ostream &operator<<(std::ostream &out, const matrix &m) {
        for (const auto &row : m.cells_) {
            for (const T &cell : row) out << std::setw(8) << cell;
            out << '\n';
        }
        return out;
    }
};

// The store, with changes that are undone unless they are committed.
class store {
    std::map<std::string, std::shared_ptr<const item>> items_;
    std::map<std::string, int> counts_;

public:
    class transaction {
        store &of_;
        std::map<std::string, int> before_;
        bool committed_ = false;

    public:
        explicit transaction(store &of) : of_(of), before_(of.counts_) {}
        ~transaction() {
            if (committed_) return;
            of_.counts_.swap(before_);
            std::cout << "  rolled back\n";
        }
        void commit() { committed_ = true; }
    };

    void define(std::shared_ptr<const item> what) { items_[what->name()] = std::move(what); }
    const std::shared_ptr<const item> &find(const std::string &name) const {
        auto at = items_.find(name);
        if (at == items_.end()) throw missing(name);
        return at->second;
    }
    void put(const std::string &name, int count) { counts_[find(name)->name()] += count; }
    void take(const std::string &name, int count) {
        int &left = counts_[find(name)->name()];
        if (left < count) throw too_few(name, count - left);
        left -= count;
    }
    int count(const std::string &name) const {
        auto at = counts_.find(name);
        return at == counts_.end() ? 0 : at->second;
    }
    double worth() const {
        double sum = 0;
        for (const auto &[name, count] : counts_) sum += items_.at(name)->price() * count;
        return sum;
    }
    template <class F> void each(F f) const {
        for (const auto &[name, what] : items_) f(*what, count(name));
    }
};

// Commands in text.
class shell {
    store &store_;
    std::map<std::string, std::function<void(std::istream &)>> commands_;
    int failures_ = 0;

    template <class T> static T read(std::istream &in, const char *what) {
        T v;
        if (!(in >> v)) throw syntax_error(std::string("expected ") + what, 0);
        return v;
    }

public:
    explicit shell(store &s) : store_(s) {
        commands_["part"] = [this](std::istream &in) {
            auto name = read<std::string>(in, "a name");
            auto price = read<double>(in, "a price");
            store_.define(std::make_shared<part>(name, price, read<double>(in, "a weight")));
        };
        commands_["build"] = [this](std::istream &in) {
            auto made = std::make_shared<assembly>(read<std::string>(in, "a name"));
            std::string what;
            while (in >> what) made->add(store_.find(what), read<int>(in, "a count"));
            store_.define(made);
        };
        commands_["put"] = [this](std::istream &in) {
            auto name = read<std::string>(in, "a name");
            store_.put(name, read<int>(in, "a count"));
        };
        commands_["sell"] = [this](std::istream &in) {
            store::transaction t(store_);
            std::string what;
            while (in >> what) store_.take(what, read<int>(in, "a count"));
            t.commit();
            std::cout << "  sold, left worth " << store_.worth() << '\n';
        };
        commands_["value"] = [this](std::istream &in) {
            std::string text;
            std::getline(in, text);
            expression e(text, [this](const std::string &name) { return store_.find(name)->price(); });
            std::cout << "  " << e.value() << '\n';
        };
        commands_["show"] = [this](std::istream &in) { std::cout << *store_.find(read<std::string>(in, "a name")); };
        commands_["tax"] = [this](std::istream &in) {
            auto &found = *store_.find(read<std::string>(in, "a name"));
            std::cout << "  tax " << dynamic_cast<const taxed &>(found).tax() << '\n';
        };
    }
    int failures() const { return failures_; }
    void run(const std::string &line) {
        std::istringstream in(line);
        std::string word;
        if (!(in >> word)) return;
        std::cout << "> " << line << '\n';
        try {
            auto command = commands_.find(word);
            if (command == commands_.end()) throw missing("command " + word);
            try {
                command->second(in);
            } catch (const std::invalid_argument &e) {
                std::throw_with_nested(error("in " + word));
            }
            return;
        } catch (const too_few &e) {
            std::cout << "  " << e.kind() << ": " << e.what() << ", short by " << e.short_by() << '\n';
        } catch (const syntax_error &e) {
            std::cout << "  " << e.kind() << " at " << e.column() << ": " << e.what() << '\n';
        } catch (const error &e) {
            std::cout << "  " << e.kind() << ": " << e.what();
            try {
                std::rethrow_if_nested(e);
            } catch (const std::exception &inner) {
                std::cout << " (" << inner.what() << ')';
            }
            std::cout << '\n';
        } catch (const std::bad_cast &) {
            std::cout << "  no tax on that\n";
        } catch (const std::exception &e) {
            std::cout << "  " << e.what() << '\n';
        }
        ++failures_;
    }
};

} // namespace inventory

int main() {
    using namespace inventory;
    int failures = 0;
    {
        store s;
        shell sh(s);
        for (const char *line : {
                 "part wheel 12.5 1.5", "part frame 80 9", "part bell 3.25 0.1", "part bad -1 1", "part half 2",
                 "build bike frame 1 wheel 2 bell 1", "build tandem bike 2 bell 1", "build ghost sheet 3",
                 "put wheel 10", "put bike 3", "put tandem 1", "put car 1", "sell wheel 4 bike 1",
                 "sell wheel 4 bike 5", "sell wheel 1 car 1", "value 2 * (bike + bell) ^ 2 / 10 - -wheel",
                 "value 1 / (bell - bell)", "value (1 + 2", "value 2 3", "value car + 1", "value", "show tandem",
                 "tax bike", "tax bell", "dance", "sell tandem 1 bike 2"})
            sh.run(line);
        failures = sh.failures();
        std::vector<double> prices, weights;
        s.each([&](const item &i, int count) {
            prices.push_back(std::round(i.price()));
            weights.push_back(i.weight());
            std::cout << std::left << std::setw(8) << i.name() << std::right << std::fixed << std::setprecision(2) << std::setw(9) << i.price() << std::setw(4) << count << '\n';
        });
        matrix<double, 2, 4> table([&](std::size_t r, std::size_t c) { return (r ? weights : prices).at(c); });
        std::cout << std::setprecision(1) << table * table.transposed() << table.transposed();
        try {
            table(2, 0) = 1;
        } catch (const std::out_of_range &e) {
            std::cout << "out of range: " << e.what() << '\n';
        }
        std::set<std::string, std::greater<>> names;
        s.each([&](const item &i, int) { names.insert(i.name()); });
        std::optional<std::string> last;
        if (!names.empty()) last = *names.begin();
        std::cout << last.value_or("none") << ' ' << item::alive() << '\n';
    }
    std::cout << "alive " << item::alive() << ", failures " << failures << std::endl;
    return failures;
}
