#include <cstdio>
#include <string>
#include <stdexcept>

int main() {
    int passed = 0;
    Stack<int> s; passed += s.empty();
    try { s.pop(); } catch (const std::out_of_range& e) { ++passed; }
    s.push(3); s.push(4); passed += s.top() == 4 && s.size() == 2;
    Stack<std::string> t; t.push("ab"); passed += t.top() == "ab";
    const Stack<int>& c = s; passed += c.top() == 4;
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
