#include <cstdio>
#include <memory>

int main() {
    int passed = 0;
    auto t = std::make_unique<Tree>(5); t->insert(3); t->insert(8); passed += t->depth() == 2; passed += t->has(8) && !t->has(4); passed += t->l != nullptr; passed += t->r->v == 8;
    std::unique_ptr<Tree> u = build(4); passed += u->v == 4; Tree* p = u.get(); passed += p->v == 4; u.reset(); passed += !u; Tree stack(1); stack.insert(2); passed += stack.r->v == 2;
    std::printf("\nPASSED %d/8\n", passed);
    return passed == 8 ? 0 : 1;
}
