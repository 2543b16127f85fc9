#include <cstdio>
#include <string>

int main() {
    int passed = 0;
    Logger l; passed += !l; l.log("a").log("b").log("c"); passed += l.count() == 3; passed += l.lines[1] == "b"; if (l) ++passed; passed += Logger::version() == 3; passed += Logger::limit == 9; passed += Logger().log("x").count() == 1; Logger all[2]; all[1].log("q"); passed += all[1].count() == 1;
    std::printf("\nPASSED %d/8\n", passed);
    return passed == 8 ? 0 : 1;
}
