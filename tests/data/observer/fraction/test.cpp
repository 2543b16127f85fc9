#include <cstdio>


int main() {
    int passed = 0;
    Fraction a(1, 2), b(1, 3); passed += a + b == Fraction(5, 6); passed += a.n == 1 && a.d == 2; passed += (a + b).d == 6; passed += b < a; passed += Fraction(2, 4) == a;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
