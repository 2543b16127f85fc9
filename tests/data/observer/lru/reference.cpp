#include <list>
#include <unordered_map>
class LRU { int cap; std::list<std::pair<int,int>> l; std::unordered_map<int, std::list<std::pair<int,int>>::iterator> m;
public: explicit LRU(int c) : cap(c) {} int get(int k) { auto i = m.find(k); if (i == m.end()) return -1; l.splice(l.begin(), l, i->second); return i->second->second; } void put(int k, int v) { auto i = m.find(k); if (i != m.end()) { i->second->second = v; l.splice(l.begin(), l, i->second); return; } l.emplace_front(k, v); m[k] = l.begin(); if ((int)l.size() > cap) { m.erase(l.back().first); l.pop_back(); } } };
