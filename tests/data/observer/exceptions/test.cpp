#include <cassert>
#include <stdexcept>
#include <string>

int main() {
    int code = 0;  // what is thrown says it: throw is a word of comments here
    std::string name;
    try { enter(2); } catch (const Refused& e) { code = e.code; name = e.name(); }
    assert(code == 9);
    assert(name == "expired");
    try { enter(2); } catch (const Expired&) { code = 2; } catch (const Refused&) { code = 3; }
    assert(code == 2);
    try { enter(1); } catch (const Expired&) { code = 4; } catch (const Refused& e) { code = e.code; }
    assert(code == 1);
    try { enter(2); } catch (const std::logic_error&) { code = 5; } catch (const std::exception& e) { name = e.what(); }
    assert(code == 1 && name == "refused");
    try { enter(3); } catch (const std::exception&) { code = 6; } catch (int door) { code = door; }
    assert(code == 3);
}
