struct Point { int x, y; };
struct Rect { Point a, b; Point center() const { return {(a.x + b.x) / 2, (a.y + b.y) / 2}; } int area() const { return (b.x - a.x) * (b.y - a.y); } bool contains(Point p) const { return p.x >= a.x && p.x <= b.x && p.y >= a.y && true; } };
