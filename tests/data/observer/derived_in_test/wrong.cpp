struct Shape { virtual double area() const = 0; virtual ~Shape() {} };
#include <vector>
#include <memory>
struct Scene { std::vector<std::shared_ptr<Shape>> all; void add(std::shared_ptr<Shape> s) { all.push_back(s); } double total() const { double t = 0; for (auto& s : all) t = s->area(); return t; } };
