// iostream: formats, manipulators, operators of the program's own, string streams, input.
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>

struct point { double x, y; };
static std::ostream &operator<<(std::ostream &out, const point &p) { return out << '(' << p.x << ", " << p.y << ')'; }
static std::istream &operator>>(std::istream &in, point &p) { char c; return in >> c >> p.x >> c >> p.y >> c; }
static std::ostream &star(std::ostream &out) { return out << '*'; }

int main() {
    std::cout << 42 << ' ' << -1.5 << ' ' << true << ' ' << std::boolalpha << false << ' ' << std::hex << 255 << std::dec << '\n';
    std::cout << std::setw(8) << std::setfill('.') << 7 << std::left << std::setw(6) << "ab" << '|' << std::fixed << std::setprecision(3) << 2.0 / 3 << star << '\n';
    std::cout.unsetf(std::ios::floatfield);
    point p;
    std::istringstream in("(1.5, -2) (3,4) x");
    while (in >> p) std::cout << p << ' ';
    std::cout << in.fail() << '\n';
    std::string line;
    int lines = 0, sum = 0, n;
    std::getline(std::cin, line);
    std::cout << line << std::endl;
    while (std::cin >> n) sum += n;
    std::cin.clear();
    while (std::getline(std::cin, line)) lines++;
    std::ostringstream out;
    out << sum << '/' << lines;
    std::cout << out.str() << ' ' << out.str().size() << '\n';
    std::cerr << "to nobody\n";
    return lines;
}
