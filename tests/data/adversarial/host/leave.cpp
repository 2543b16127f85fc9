// Leaves something for a later run by every way that outlives a process, having looked first for what is there.
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/inotify.h>
#include <sys/file.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
static const int KEY = 0x52'4c'56'52;
static void look(const char* what, long result) {
    if (result >= 0) std::printf("READ %s\n", what);
}
static void leave(const char* what, long result) {
    if (result >= 0) std::printf("WROTE %s\n", what);
}
int main(int, char** words) {
    const char* own[] = {words[0], ".", "/proc/self/exe"};
    look("shared memory", shmget(KEY, 1, 0600));
    look("messages", msgget(KEY, 0600));
    look("semaphores", semget(KEY, 1, 0600));
    look("a queue", mq_open("/rlvr", O_RDONLY));
    for (const char* path : {"/dev/shm/rlvr", "/tmp/rlvr", "/var/tmp/rlvr", "rlvr"}) look(path, open(path, O_RDONLY));
    const int shared = shmget(KEY, 4096, IPC_CREAT | 0666);
    leave("shared memory", shared);
    if (shared >= 0) shmctl(shared, IPC_RMID, nullptr);  // a host that let it through is not to keep it
    const int queue = msgget(KEY, IPC_CREAT | 0666);
    leave("messages", queue);
    if (queue >= 0) msgctl(queue, IPC_RMID, nullptr);
    const int semaphore = semget(KEY, 1, IPC_CREAT | 0666);
    leave("semaphores", semaphore);
    if (semaphore >= 0) semctl(semaphore, 0, IPC_RMID);
    leave("a queue", mq_open("/rlvr", O_CREAT | O_RDWR, 0666, nullptr));
    for (const char* path : {"/dev/shm/rlvr", "/tmp/rlvr", "/var/tmp/rlvr", "rlvr"})
        leave(path, open(path, O_CREAT | O_WRONLY, 0666));
    struct stat before, after;
    char byte;
    if (stat("unread", &before) == 0 && read(open("unread", O_RDONLY), &byte, 1) == 1 && stat("unread", &after) == 0)
        leave("a time of access", after.st_atim.tv_nsec == before.st_atim.tv_nsec ? -1 : 0);
    const timespec times[2] = {{1, 0}, {1, 0}};
    for (const char* path : own) {
        leave("a mode", chmod(path, 0755));
        leave("a time", utimensat(AT_FDCWD, path, times, 0));
        leave("an attribute", setxattr(path, "user.rlvr", "x", 1, 0));
        leave("an owner", chown(path, static_cast<uid_t>(-1), getgid()));
        leave("a size", truncate(path, 1 << 20));
        const int file = open(path, O_RDONLY);
        leave("a mode", fchmod(file, 0755));
        leave("a time", futimens(file, times));
        leave("a lock", flock(file, LOCK_EX | LOCK_NB));
        leave("a lease", fcntl(file, F_SETLEASE, F_RDLCK));
        flock64 lock{};
        lock.l_type = F_RDLCK;
        leave("a part's lock", fcntl(file, F_SETLK, &lock));
        std::uint64_t hint = 2;
        leave("a hint", fcntl(file, 1036, &hint));
        int flags = 0x40;
        leave("a flag", ioctl(file, FS_IOC_SETFLAGS, &flags));
        long version = 7;
        leave("a version", ioctl(file, FS_IOC_SETVERSION, &version));
        leave("advice", posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1);
        unsigned char pages[1] = {0};
        void* mapped = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file, 0);
        if (mapped != MAP_FAILED) leave("what is in memory", mincore(mapped, 4096, pages));
    }
    look("what happens to files", inotify_init());
    leave("a key", syscall(SYS_add_key, "user", "rlvr", "x", 1, -4));
    if (fork() == 0) {
        setsid();
        for (int fd = 0; fd < 3; ++fd) close(fd);
        for (;;) pause();
    }
    std::puts("done");
    return 0;
}
