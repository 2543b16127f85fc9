// Honest: says who it is and ends itself.
#include <csignal>
#include <cstdio>
#include <unistd.h>
int main() {
    std::printf("uid %d %d\n", static_cast<int>(getuid()), static_cast<int>(geteuid()));
    std::fflush(stdout);
    std::raise(SIGKILL);
    return 0;
}
