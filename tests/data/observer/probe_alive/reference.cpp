#include <new>
#include <cstddef>
#include <utility>
template <class T> class Vec { T* d = nullptr; std::size_t n = 0, c = 0; public: Vec() {} Vec(const Vec&) = delete; ~Vec() { for (std::size_t i = n; i > 0; --i) d[i-1].~T(); ::operator delete(d); } void push(const T& x) { if (n == c) { c = c ? 2 * c : 1; T* e = static_cast<T*>(::operator new(c * sizeof(T))); for (std::size_t i = 0; i < n; ++i) { new (e + i) T(std::move(d[i])); d[i].~T(); } ::operator delete(d); d = e; } new (d + n) T(x); ++n; } std::size_t size() const { return n; } };
