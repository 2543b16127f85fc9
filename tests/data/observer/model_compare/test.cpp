#include <cstdio>
#include <queue>
#include <functional>

int main() {
    int passed = 0;
    MinHeap h; std::priority_queue<int, std::vector<int>, std::greater<int>> model; unsigned seed = 7; bool same = true;
    for (int i = 0; i < 40; ++i) { seed = seed * 1103515245 + 12345; int x = seed / 65536 % 100; h.push(x); model.push(x); if (i % 3 == 0) { if (h.pop() != model.top()) same = false; model.pop(); } }
    while (!model.empty()) { same = same && h.pop() == model.top(); model.pop(); } passed += same; passed += h.empty();
    std::printf("\nPASSED %d/2\n", passed);
    return passed == 2 ? 0 : 1;
}
