// Honest: what a parent has is shared with its children and counts once.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>
int main() {
    const std::size_t size = 100 << 20;
    char* memory = static_cast<char*>(std::malloc(size));
    std::memset(memory, 1, size);
    for (int i = 0; i < 6; ++i)
        if (fork() == 0) {
            usleep(150'000);
            _exit(memory[i]);
        }
    while (wait(nullptr) > 0) {}
    std::puts("done");
    return 0;
}
