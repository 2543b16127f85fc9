#include <cstdio>


int main() {
    int passed = 0;
    Traffic t; passed += t.state() == Light::Red; t.next(); passed += t.state() == Light::Green; t.next(); passed += t.state() == Light::Yellow && t.wait() == 5;
    Light l = t.state(); passed += l != Light::Red; switch (t.state()) { case Light::Yellow: ++passed; break; default: break; }
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
