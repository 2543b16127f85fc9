#include <cstdio>
#include <cmath>

int main() {
    int passed = 0;
    Matrix a(2, 2), b(2, 2);
    for (int i = 0; i < 2; ++i) for (int j = 0; j < 2; ++j) { a(i, j) = i + j; b(i, j) = i == j; }
    passed += (a * b)(1, 1) == 2; passed += a * b == a;
    Matrix c = a * a; passed += c(0, 0) == 1.0; passed += std::fabs(c(1, 1) - 5) < 1e-9; passed += c.rows() == 2 && c.cols() == 2;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
