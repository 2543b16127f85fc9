#include <functional>
#include <vector>
class Emitter { std::vector<std::function<void(int)>> f; public: void on(std::function<void(int)> g) { f.push_back(g); } void emit(int x) { for (auto& g : f) { g(x); break; } } };
