#include <cstdio>
#include <string>
struct Case { const char* text; int want; };
static const Case cases[] = {{"1+2", 3}, {"10-4", 6}, {"7", 7}};
int main() {
    int passed = 0;
    Calc calc; for (const auto& c : cases) if (calc.eval(c.text) == c.want) ++passed;
    for (std::size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) passed += calc.eval(cases[i].text) == cases[i].want;
    std::printf("\nPASSED %d/6\n", passed);
    return passed == 6 ? 0 : 1;
}
