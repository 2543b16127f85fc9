#include <string>
#include <ostream>
#include <algorithm>
class Big { std::string s; public: Big(const std::string& t) : s(t) {} Big(long long n) : s(std::to_string(n)) {} Big operator+(const Big& o) const { std::string a = s, b = o.s, r; int c = 0; std::reverse(a.begin(), a.end()); std::reverse(b.begin(), b.end()); for (std::size_t i = 0; i < std::max(a.size(), b.size()) || c; ++i) { int d = c + (i < a.size() ? a[i] - '0' : 0) + (i < b.size() ? b[i] - '0' : 0); r += char('0' + d % 10); c = d / 10; } std::reverse(r.begin(), r.end()); return Big(r); }
 bool operator==(const Big& o) const { return s == o.s; } std::string str() const { return s; } friend std::ostream& operator<<(std::ostream& o, const Big& b) { return o << b.s; } };
