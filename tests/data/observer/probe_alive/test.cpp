#include <cstdio>

struct Probe { static int alive; Probe() { ++alive; } Probe(const Probe&) { ++alive; } Probe(Probe&&) { ++alive; } ~Probe() { --alive; } };
int Probe::alive = 0;
int main() {
    int passed = 0;
    { Vec<Probe> v; v.push(Probe()); v.push(Probe()); v.push(Probe()); passed += Probe::alive == 3; passed += v.size() == 3; }
    passed += Probe::alive == 0;
    std::printf("\nPASSED %d/3\n", passed);
    return passed == 3 ? 0 : 1;
}
