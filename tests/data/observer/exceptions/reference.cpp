#include <stdexcept>
#include <string>
struct Refused : std::runtime_error {
    int code;
    explicit Refused(int c) : std::runtime_error("refused"), code(c) {}
    virtual std::string name() const { return "refused"; }
};
struct Expired : Refused {
    Expired() : Refused(9) {}
    std::string name() const override { return "expired"; }
};
void enter(int door) {
    if (door == 1) throw Refused(door);
    if (door == 2) throw Expired();
    if (door == 3) throw door;
}
