#include <cstdio>
#include <algorithm>
#include <numeric>

int main() {
    int passed = 0;
    Bag b{3, 1, 2}; std::sort(b.begin(), b.end()); passed += b[0] == 1 && b[2] == 3; b[1] = 9; passed += b[1] == 9;
    passed += std::find(b.begin(), b.end(), 9) != b.end(); passed += std::accumulate(b.begin(), b.end(), 0) == 13; b.twice(); passed += b[1] == 18;
    int& r = b[0]; r = 77; passed += b[0] == 77; const Bag& c = b; passed += c[0] == 77; passed += *std::max_element(b.begin(), b.end()) == 77;
    std::printf("\nPASSED %d/8\n", passed);
    return passed == 8 ? 0 : 1;
}
