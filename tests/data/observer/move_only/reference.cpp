#include <utility>
class Box { int* p; public: explicit Box(int x) : p(new int(x)) {} Box(Box&& o) noexcept : p(o.p) { o.p = nullptr; } Box& operator=(Box&& o) noexcept { std::swap(p, o.p); return *this; } ~Box() { delete p; } int get() const { return p ? *p : -1; } bool valid() const { return p; } };
