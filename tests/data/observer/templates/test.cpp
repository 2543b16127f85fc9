#include <cstdio>
#include <vector>
#include <string>
#include <functional>

int main() {
    int passed = 0;
    Sorted<int> a; a.add(3); a.add(1); passed += a.at(0) == 1; Sorted<int, std::greater<int>> b; b.add(3); b.add(1); b.add(2); passed += b.at(0) == 3 && b.at(2) == 1;
    std::vector<int> v = {4, 8, 15}; passed += count_where(v.begin(), v.end(), [](int x) { return x > 5; }) == 2; int limit = 10; passed += count_where(v.begin(), v.end(), [limit](int x) { return x > limit; }) == 1;
    passed += largest(v) == 15; passed += largest(std::vector<double>{1.5, 2.5}) == 2.5; passed += largest<std::string>({"a", "c", "b"}) == "c";
    auto by = [](int x, int y) { return x % 10 < y % 10; }; Sorted<int, decltype(by)> m(by); m.add(19); m.add(21); passed += m.at(0) == 21;
    std::printf("\nPASSED %d/8\n", passed);
    return passed == 8 ? 0 : 1;
}
