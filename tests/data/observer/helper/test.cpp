#include <cstdio>

static void fill(Stack<int>& s, int n) { for (int i = 0; i < n; ++i) s.push(i); }
static bool expect(const Stack<int>& s, int top, int size) { return s.top() == top && (int)s.size() == size; }
static int drained(Stack<int>& s) { int n = 0; while (!s.empty()) { s.pop(); ++n; } return n; }
int main() {
    int passed = 0;
    Stack<int> s; fill(s, 4); passed += expect(s, 3, 4); s.pop(); passed += expect(s, 2, 3); passed += drained(s) == 3;
    std::printf("\nPASSED %d/3\n", passed);
    return passed == 3 ? 0 : 1;
}
