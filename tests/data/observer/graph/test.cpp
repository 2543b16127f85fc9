#include <cstdio>
#include <map>

int main() {
    int passed = 0;
    Graph g; int edges[][2] = {{1, 2}, {2, 3}, {3, 4}}; for (auto& e : edges) g.edge(e[0], e[1]);
    passed += g.distance(1, 4) == 3; passed += !g.distance(1, 9); auto d = g.degrees(); passed += d[2] == 2 && d.at(1) == 1;
    auto [n, m] = g.size(); passed += n == 4 && m == 3; for (auto& [k, v] : g.degrees()) if (k == 3) passed += v == 2;
    if (auto x = 3; g.distance(2, 3).value() == 1) passed += x == 3;
    std::printf("\nPASSED %d/6\n", passed);
    return passed == 6 ? 0 : 1;
}
