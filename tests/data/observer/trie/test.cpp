#include <cstdio>
#include <string>
#include <vector>

int main() {
    int passed = 0;
    Trie t; for (const char* w : {"car", "cat", "dog"}) t.insert(w);
    passed += t.contains("cat"); passed += !t.contains("ca"); passed += t.words() == std::vector<std::string>{"car", "cat", "dog"};
    std::vector<std::string> want = {"car", "cat", "dog"}; std::vector<std::string> got = t.words(); passed += got == want; passed += t.words().size() == 3 && t.words()[1] == "cat";
    std::printf("\nPASSED %d/5\n", passed);
    return passed == 5 ? 0 : 1;
}
