#include <cstdio>
#include <vector>
#include <functional>

int main() {
    int passed = 0;
    Emitter e; int sum = 0; std::vector<int> seen;
    e.on([&](int x) { sum += x; }); e.on([&seen](int x) { seen.push_back(x); });
    e.emit(3); e.emit(4); passed += sum == 7; passed += seen.size() == 2 && seen[1] == 4;
    int calls = 0; Emitter f; f.on([&calls](int) { ++calls; }); for (int i = 0; i < 5; ++i) f.emit(i); passed += calls == 5;
    std::printf("\nPASSED %d/3\n", passed);
    return passed == 3 ? 0 : 1;
}
