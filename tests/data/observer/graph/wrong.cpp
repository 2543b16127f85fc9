#include <map>
#include <queue>
#include <vector>
#include <optional>
class Graph { std::map<int, std::vector<int>> g; public: void edge(int a, int b) { g[a].push_back(b); g[b].push_back(a); } std::optional<int> distance(int a, int b) const { std::map<int,int> d{{a, 0}}; std::queue<int> q; q.push(a); while (!q.empty()) { int x = q.front(); q.pop(); if (x == b) return d[x]; auto i = g.find(x); if (i != g.end()) for (int y : i->second) if (!d.count(y)) { d[y] = d[x] + 2; q.push(y); } } return std::nullopt; } std::map<int, int> degrees() const { std::map<int,int> r; for (auto& [k, v] : g) r[k] = (int)v.size(); return r; } std::pair<int,int> size() const { int e = 0; for (auto& x : g) e += (int)x.second.size(); return {(int)g.size(), e / 2}; } };
