#include <cstdio>
#include <utility>

int main() {
    int passed = 0;
    Box a(5); Box b(std::move(a)); passed += b.get() == 5; passed += !a.valid();
    Box c(7); c = std::move(b); passed += c.get() == 5; auto d = std::move(c); passed += d.get() == 5; passed += c.get() == -1;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
