#include <map>
#include <string>
#include <vector>
class Trie { std::map<char, Trie> k; bool e = false; void all(const std::string& p, std::vector<std::string>& o) const { if (e) o.push_back(p); for (auto& c : k) c.second.all(p + c.first, o); } public: void insert(const std::string& w) { Trie* t = this; for (char c : w) t = &t->k[c]; t->e = true; } bool contains(const std::string& w) const { const Trie* t = this; for (char c : w) { auto i = t->k.find(c); if (i == t->k.end()) return false; t = &i->second; } return t->e; } std::vector<std::string> words(const std::string& p = "") const { std::vector<std::string> o; all(p, o); return o; } };
