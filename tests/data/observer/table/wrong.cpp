#include <string>
#include <cctype>
struct Calc { int eval(const std::string& e) const { int r = 0, s = 1, x = 0; for (char c : e) { if (std::isdigit((unsigned char)c)) x = x * 10 + (c - '0'); else { r += s * x; x = 0; s = 1; } } return r + s * x; } };
