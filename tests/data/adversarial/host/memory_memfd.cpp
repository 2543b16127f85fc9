// Takes memory that no process maps.
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
int main() {
    static char block[1 << 20];
    std::memset(block, 1, sizeof block);
    long total = 0;
    for (int i = 0; i < 200; ++i) {
        const int file = memfd_create("x", 0);
        for (int n = 0; n < 32 && file >= 0 && write(file, block, sizeof block) > 0; ++n) ++total;
        if (total > 300) std::printf("REACHED %ld MB\n", total), std::fflush(stdout);
    }
    return 0;
}
