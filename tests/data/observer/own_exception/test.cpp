#include <cstdio>


int main() {
    int passed = 0;
    Store s; passed += s.get("a") == 1;
    try { s.get("hello"); } catch (const Missing& m) { passed += m.code() == 5; passed += m.key == "hello"; }
    try { s.get("q"); } catch (...) { ++passed; }
    std::printf("\nPASSED %d/4\n", passed);
    return passed == 4 ? 0 : 1;
}
