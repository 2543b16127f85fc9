#include <vector>
#include <initializer_list>
class Bag { std::vector<int> v; public: Bag() {} Bag(std::initializer_list<int> l) : v(l) {} void add(int x) { v.push_back(x); } std::vector<int>::iterator begin() { return v.begin(); } std::vector<int>::iterator end() { return v.end(); } int& operator[](std::size_t i) { return v[i]; } int operator[](std::size_t i) const { return v[i]; } std::size_t size() const { return v.size(); } void twice() { for (int& x : v) x *= 2; } };
