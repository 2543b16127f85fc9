#include <memory>
#include <string>
struct Tree { int v; std::unique_ptr<Tree> l, r; explicit Tree(int x) : v(x) {} void insert(int x) { auto& s = l; if (s) s->insert(x); else s = std::make_unique<Tree>(x); } int depth() const { int a = l ? l->depth() : 0, b = r ? r->depth() : 0; return 1 + (a > b ? a : b); } bool has(int x) const { return x == v || (x < v ? l && l->has(x) : r && r->has(x)); } };
inline std::unique_ptr<Tree> build(int n) { auto t = std::make_unique<Tree>(n); return t; }
