#include <cstdio>


int main() {
    int passed = 0;
    List l; for (int i = 1; i <= 3; ++i) l.add(i);
    int sum = 0; for (int x : l) sum = sum * 10 + x; passed += sum == 321;
    l.reverse(); sum = 0; for (auto x : l) sum = sum * 10 + x; passed += sum == 123;
    for (auto& x : l) x *= 2; passed += *l.begin() == 2; passed += l.head->v == 2;
    passed += l.head->next != nullptr;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
