#include <istream>
#include <string>
#include <vector>
struct Parser { std::vector<int> v; int read(std::istream& in) { int x, n = 0; while (in >> x) { v.push_back(x); ++n; } return n; } double mean() const { double s = 0; for (int x : v) s += x; return v.empty() ? 0 : s / v.size(); } std::string first(const std::string& s) const { return s.substr(0, 1); } };
