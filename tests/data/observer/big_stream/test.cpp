#include <cstdio>
#include <sstream>
#include <string>

int main() {
    int passed = 0;
    Big a("99999999999999999999"), b(1);
    std::ostringstream out; out << a + b; passed += out.str() == "100000000000000000000";
    passed += (a + b).str() == "100000000000000000000"; passed += Big(2) + Big(3) == Big(5);
    std::ostringstream two; two << b << "," << Big(7); passed += two.str() == "1,7";
    std::printf("\nPASSED %d/4\n", passed);
    return passed == 4 ? 0 : 1;
}
