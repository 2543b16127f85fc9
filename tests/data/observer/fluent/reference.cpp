#include <string>
#include <vector>
struct Logger { std::vector<std::string> lines; Logger& log(const std::string& s) { lines.push_back(s); return *this; } std::size_t count() const { return lines.size(); } operator bool() const { return !lines.empty(); } static int version() { return 3; } static const int limit = 9; };
