#include <string>
struct Missing { std::string key; int code() const { return (int)key.size(); } };
struct Store { int get(const std::string& k) const { if (k != "a") throw Missing{k}; return 1; } };
