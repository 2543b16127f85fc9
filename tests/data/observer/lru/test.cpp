#include <cstdio>


int main() {
    int passed = 0;
    LRU cache(2); cache.put(1, 10); cache.put(2, 20);
    passed += cache.get(1) == 10; cache.put(3, 30); passed += cache.get(2) == -1; passed += cache.get(1) == 10;
    for (int i = 0; i < 20; ++i) cache.put(i, i * i);
    int got[2] = {cache.get(18), cache.get(19)}; passed += got[0] == 324 && got[1] == 361;
    std::printf("\nPASSED %d/4\n", passed);
    return passed == 4 ? 0 : 1;
}
