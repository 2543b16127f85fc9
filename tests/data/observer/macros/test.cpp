#include <cstdio>
static int total = 0, passed = 0;
#define CHECK(x) do { ++total; if (x) ++passed; else std::printf("failed: %s\n", #x); } while (0)
#define CHECK_EQ(a, b) CHECK((a) == (b))
int main() { Stack<int> s; CHECK(s.empty()); s.push(1); s.push(2); CHECK_EQ(s.top(), 2); CHECK(s.size() == 2u); s.pop(); CHECK_EQ(1, s.top());
 std::printf("PASSED %d/%d\n", passed, total); return passed == total ? 0 : 1; }
