#include <cstdio>
#include <sstream>
#include <cmath>
#include <string>

int main() {
    int passed = 0;
    std::istringstream in("1 2 3"); Parser p; passed += p.read(in) == 3; passed += p.mean() == 2; passed += std::abs(p.mean() - 2.0) < 1e-9; std::string s = "hey"; passed += p.first(s) == "h"; passed += p.first(s + "x").size() == 1;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
