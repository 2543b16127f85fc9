#include <stdexcept>
#include <vector>
template <class T> class Stack { std::vector<T> v;
public: void push(const T& x) { v.push_back(x); } void pop() { if (v.empty()) throw std::out_of_range("empty"); v.pop_back(); }
 const T& top() const { if (v.empty()) throw std::out_of_range("empty"); return v.front(); } std::size_t size() const { return v.size(); } bool empty() const { return v.empty(); } };
