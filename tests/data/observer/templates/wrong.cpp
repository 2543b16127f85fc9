#include <vector>
#include <functional>
#include <algorithm>
template <class T, class C = std::less<T>> struct Sorted { std::vector<T> v; C c; Sorted(C cmp = C()) : c(cmp) {} void add(T x) { v.insert(std::upper_bound(v.begin(), v.end(), x, c), x); } T at(std::size_t i) const { return v[i]; } };
template <class It, class F> int count_where(It a, It b, F f) { int n = 0; for (; a != b; ++a) if (f(*a)) ++n; return n; }
template <class T> T largest(const std::vector<T>& v) { T m = v[0]; for (const T& x : v) if (x < m) m = x; return m; }
