#include <cstdio>


int main() {
    int passed = 0;
    Rect r{{0, 0}, {4, 2}}; passed += r.area() == 8; passed += r.center().x == 2 && r.center().y == 1; passed += r.contains({1, 1}); passed += !r.contains(Point{1, 9});
    Point c = r.center(); passed += c.x + c.y == 3; auto [x, y] = r.center(); passed += x == 2 && y == 1;
    std::printf("\nPASSED %d/6\n", passed);
    return passed == 6 ? 0 : 1;
}
