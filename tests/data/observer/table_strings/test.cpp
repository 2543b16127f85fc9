#include <cstdio>
#include <string>
#include <vector>
#include <map>
struct Case { std::string text; int want; };
int main() {
    int passed = 0;
    Calc calc; std::vector<Case> cases = {{"1+2", 3}, {"10-4", 6}, {"7", 7}}; for (const Case& c : cases) passed += calc.eval(c.text) == c.want;
    std::map<std::string, int> table = {{"5-6", -1}, {"8", 8}}; for (const auto& [text, want] : table) passed += calc.eval(text) == want;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
