#include <cstdio>
#include <memory>
struct Square : Shape { double a; explicit Square(double x) : a(x) {} double area() const override { return a * a; } };
int main() {
    int passed = 0;
    Scene s; s.add(std::make_shared<Square>(2)); s.add(std::make_shared<Square>(3)); passed += s.total() == 13; passed += s.all.size() == 2;
    std::printf("\nPASSED %d/2\n", passed);
    return passed == 2 ? 0 : 1;
}
