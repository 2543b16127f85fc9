#undef NDEBUG
#include <cassert>
#include <stdexcept>
int main() { Stack<int> s; assert(s.empty()); s.push(5); s.push(6); assert(s.top() == 6); assert(s.size() == 2);
 bool threw = false; try { Stack<int> t; t.pop(); } catch (const std::out_of_range&) { threw = true; } assert(threw);
 for (int i = 0; i < 3; ++i) { s.push(i); assert(s.top() == i); } }
