/* Run one program that nobody trusts, and say on a descriptor how it ended.
 *
 * Three processes. The LAUNCHER (this process, started by the verifier) makes the cgroup, waits, and removes what it
 * made. The KEEPER is process 1 of a new PID namespace: it builds the program's view of the file system, watches the
 * clocks and the memory and reaps orphans; when it ends the kernel kills whatever is left. The PROGRAM gives up every
 * right it can and executes the command.
 *
 * Each hardening step is one function, named after the kernel feature; the caller asks for steps by name and a step
 * that fails is an error of the sandbox, told with the step's name, never a silent fallback.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PATHS = 64, MAX_ENVIRONMENT = 16, MAX_DESCRIPTORS = 4, MAX_CGROUPS = 4, PATH_SIZE = 4096 };
enum { UNPRIVILEGED = 65534, INSIDE = 1000 }; /* "nobody" outside, an ordinary user inside the user namespace */
enum { FIRST_FREE = 20 };                     /* descriptors of ours are kept at and above this number */
enum { CHECK_US = 20000 };                    /* how often the keeper counts what no cgroup and no user bounds */

/* System calls that are younger than some C libraries; these numbers are the same on every architecture. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#endif
#ifndef SYS_removexattrat
#define SYS_removexattrat 466
#endif
#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#endif

struct descriptor {
    int from, to;
};

struct settings {
    /* what to run and what it sees */
    char **command; /* NULL: harden, then exit with 0 */
    const char *work;
    int work_writable;
    const char *readable[MAX_PATHS];
    int readables;
    char *environment[MAX_ENVIRONMENT + 1];
    int variables;
    struct descriptor descriptors[MAX_DESCRIPTORS];
    int descriptor_count;
    /* limits */
    long wall_ms, cpu_ms;
    long long memory, address_space, data_size, file_size; /* bytes; 0 for none */
    long long stack;                                       /* bytes */
    long processes, open_files;
    long nice; /* 0 to 19 */
    /* controls */
    int drop, user, pid, mount, net, ipc, uts, cgroup_ns, proc, landlock, seccomp;
    int account, group; /* what `drop` makes of root */
    const char *memory_cgroup, *pids_cgroup; /* folders to create; the same one in cgroup v2 */
    /* channels */
    int status, lifeline;
};

struct ending {
    int by; /* 'e' exit, 's' signal, 'w' wall clock, 'c' CPU time, 'm' memory, 'k' killed by the caller */
    int value;
    long long cpu_us, wall_us, peak_kib;
};

static struct settings settings;
static int privileged;        /* we may set up namespaces without a user namespace */
static int outer_uid, outer_gid; /* who we are on the host; inside a new user namespace nobody knows it any more */
static int host_proc = -1;    /* the host's /proc, for the id maps, which must be written after it has gone */
static int failure_pipe = -1; /* where the keeper and the program tell which step failed */

static void fail(const char *step) {
    dprintf(failure_pipe >= 0 ? failure_pipe : settings.status, "failed %s: %s\n", step, strerror(errno));
    _exit(125);
}

static void require(int condition, const char *step) {
    if (!condition) fail(step);
}

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int write_at(int directory, const char *path, const char *text) {
    int file = openat(directory, path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t written = write(file, text, strlen(text));
    int error = errno;
    close(file);
    errno = error;
    return written < 0 ? -1 : 0;
}

static char *join(char *buffer, const char *directory, const char *name) {
    snprintf(buffer, PATH_SIZE, "%s/%s", directory, name);
    return buffer;
}

/* ---- identity ---- */

/* Leave root for good: the kernel must see an ordinary user, also for files and process counts of the host. */
static void drop_privileges(void) {
    const uid_t account = (uid_t)settings.account;
    const gid_t group = (gid_t)settings.group;
    require(setgroups(0, NULL) == 0, "setgroups");
    require(setresgid(group, group, group) == 0, "setresgid");
    require(setresuid(account, account, account) == 0, "setresuid");
    require(prctl(PR_SET_DUMPABLE, 1) == 0, "dumpable"); /* or /proc/self/uid_map belongs to root */
}

/* May do anything to the program, which can do nothing back: the kernel asks whether the one who signals, traces or
 * limits a process has its saved and real user, and those stay root's. */
static void guard_privileges(void) {
    require(setgroups(0, NULL) == 0, "setgroups");
    require(setresgid((gid_t)-1, (gid_t)settings.group, (gid_t)-1) == 0, "setresgid");
    require(setresuid((uid_t)-1, (uid_t)settings.account, (uid_t)-1) == 0, "setresuid");
}

/* Be an ordinary user with no rights in a namespace of our own: no setuid program, no capability of the host. */
static void map_user_namespace(int uid, int gid) {
    char line[64];
    require(write_at(host_proc, "self/setgroups", "deny") == 0, "user namespace (setgroups)");
    snprintf(line, sizeof line, "%d %d 1", INSIDE, uid);
    require(write_at(host_proc, "self/uid_map", line) == 0, "user namespace (uid_map)");
    snprintf(line, sizeof line, "%d %d 1", INSIDE, gid);
    require(write_at(host_proc, "self/gid_map", line) == 0, "user namespace (gid_map)");
}

static int has_sys_admin(void) {
    const uint64_t sys_admin = 1ULL << 21;
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    char *line = strstr(text, "CapEff:");
    return line && (strtoull(line + 7, NULL, 16) & sys_admin) != 0;
}

/* ---- file system ---- */

static void make_parents(const char *path) {
    char part[PATH_SIZE];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        require(mkdir(part, 0755) == 0 || errno == EEXIST, "mount namespace (mkdir)");
    }
}

static void set_flags(const char *path, uint64_t flags) {
    struct {
        uint64_t set, clear, propagation, user_ns;
    } attributes = {flags, 0, 0, 0};
    const unsigned recursive = 0x8000; /* AT_RECURSIVE */
    require(syscall(SYS_mount_setattr, AT_FDCWD, path, recursive, &attributes, sizeof attributes) == 0,
            "mount namespace (flags)");
}

enum { READ_ONLY = 1, NO_SUID = 2, NO_DEVICES = 4 }; /* MOUNT_ATTR_* */

/* Show one path of the host, by its own name or another. A path that the host lacks is left out. */
static void show(const char *source, const char *target, uint64_t flags) {
    char old[PATH_SIZE];
    struct stat kind;
    snprintf(old, sizeof old, "/.host%s", source);
    if (lstat(old, &kind) != 0) return;
    make_parents(target);
    if (S_ISLNK(kind.st_mode)) { /* such as /lib -> usr/lib; what it points to is shown by its own name */
        char link[PATH_SIZE];
        ssize_t length = readlink(old, link, sizeof link - 1);
        require(length > 0, "mount namespace (readlink)");
        link[length] = 0;
        require(symlink(link, target) == 0 || errno == EEXIST, "mount namespace (symlink)");
        return;
    }
    if (S_ISDIR(kind.st_mode)) {
        require(mkdir(target, 0755) == 0 || errno == EEXIST, "mount namespace (mkdir)");
    } else {
        int file = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        require(file >= 0, "mount namespace (file)");
        close(file);
    }
    require(mount(old, target, NULL, MS_BIND | MS_REC, NULL) == 0, "mount namespace (bind)");
    if (flags) set_flags(target, flags);
}

/* Replace the host's files by a bare tree: /etc/passwd, other runs, tests and sockets do not exist at all, which is
 * stronger than forbidding them and keeps `__has_include` an honest "no". */
static void enter_mount_namespace(void) {
    require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount namespace (private)");
    require(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m,nr_inodes=4k") == 0,
            "mount namespace (tmpfs)");
    require(mkdir("/tmp/.host", 0755) == 0, "mount namespace (mkdir)");
    require(syscall(SYS_pivot_root, "/tmp", "/tmp/.host") == 0, "mount namespace (pivot_root)");
    require(chdir("/") == 0, "mount namespace (chdir)");
    for (int i = 0; i < settings.readables; i++)
        show(settings.readable[i], settings.readable[i], READ_ONLY | NO_SUID | NO_DEVICES);
    show("/dev/null", "/dev/null", NO_SUID);
    if (settings.work) show(settings.work, "/work", (settings.work_writable ? 0 : READ_ONLY) | NO_SUID | NO_DEVICES);
    if (settings.proc) {
        require(mkdir("/proc", 0555) == 0, "private /proc (mkdir)");
        require(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2,subset=pid") == 0,
                "private /proc"); /* nothing but the program's own processes, not even the keeper */
    }
    require(umount2("/.host", MNT_DETACH) == 0 && rmdir("/.host") == 0, "mount namespace (leave the host)");
    struct {
        uint64_t set, clear, propagation, user_ns;
    } read_only = {READ_ONLY, 0, 0, 0};
    require(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &read_only, sizeof read_only) == 0,
            "mount namespace (read-only root)");
}

/* A read moves a file's time of access where that is not after its last change (relatime), once, which would tell the
 * next run of this one. So it is put where no read moves it; a read-only mount would not let it be moved at all. */
static void settle_access_times(void) {
    const struct timespec times[2] = {{time(NULL) + 86400, 0}, {0, UTIME_OMIT}};
    DIR *folder = opendir(settings.work);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strcmp(entry->d_name, "..") != 0) utimensat(dirfd(folder), entry->d_name, times, AT_SYMLINK_NOFOLLOW);
    if (folder) closedir(folder);
}

/* ---- Landlock ---- */

enum { LANDLOCK_EXECUTE = 1, LANDLOCK_WRITE = 2, LANDLOCK_READ = 4, LANDLOCK_LIST = 8, LANDLOCK_TRUNCATE = 1 << 14 };
enum { LANDLOCK_DEVICES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 }; /* make character, socket, fifo, block */

static void landlock_allow(int ruleset, const char *path, uint64_t rights) {
    struct {
        uint64_t rights;
        int32_t parent;
    } __attribute__((packed)) rule = {rights, open(path, O_PATH | O_CLOEXEC)};
    struct stat kind;
    if (rule.parent < 0) return;
    require(fstat(rule.parent, &kind) == 0, "landlock (stat)");
    if (!S_ISDIR(kind.st_mode)) rule.rights &= LANDLOCK_EXECUTE | LANDLOCK_WRITE | LANDLOCK_READ | LANDLOCK_TRUNCATE;
    require(syscall(SYS_landlock_add_rule, ruleset, 1, &rule, 0) == 0, "landlock (rule)");
    close(rule.parent);
}

/* Forbid every file, TCP port, foreign signal and abstract socket that was not shown: it holds where the mount
 * namespace is missing, and doubles it where it is not. */
static void landlock(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
    require(abi >= 1, "landlock");
    uint64_t files = abi >= 5 ? 0xffff : abi >= 3 ? 0x7fff : abi >= 2 ? 0x3fff : 0x1fff;
    struct {
        uint64_t files, network, scoped;
    } handled = {files, abi >= 4 ? 3 : 0, abi >= 6 ? 3 : 0};
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    int ruleset = syscall(SYS_landlock_create_ruleset, &handled, size, 0);
    require(ruleset >= 0, "landlock (ruleset)");
    const uint64_t read = LANDLOCK_EXECUTE | LANDLOCK_READ | LANDLOCK_LIST;
    if (settings.mount) landlock_allow(ruleset, "/", read);
    for (int i = 0; i < settings.readables && !settings.mount; i++) landlock_allow(ruleset, settings.readable[i], read);
    const char *work = settings.mount ? "/work" : settings.work;
    if (work) landlock_allow(ruleset, work, settings.work_writable ? files & ~LANDLOCK_DEVICES : read);
    landlock_allow(ruleset, "/dev/null", (LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_TRUNCATE) & files);
    require(syscall(SYS_landlock_restrict_self, ruleset, 0) == 0, "landlock (restrict)");
    close(ruleset);
}

/* ---- seccomp ---- */

#if defined(__x86_64__)
enum { THIS_ARCHITECTURE = AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { THIS_ARCHITECTURE = AUDIT_ARCH_AARCH64 };
#else
#error "the launcher knows x86-64 and aarch64"
#endif

static const int FORBIDDEN[] = {
    /* other processes: their memory, their descriptors, their signals, their share of the cores */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp, SYS_process_madvise,
    SYS_process_mrelease, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_get_robust_list, SYS_sched_setaffinity,
    SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_setpriority, SYS_ioprio_set, SYS_migrate_pages,
    SYS_move_pages,
    /* what outlives a process, and by which two runs could tell each other something */
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_semget, SYS_semop,
    SYS_semtimedop, SYS_semctl, SYS_mq_open, SYS_mq_unlink, SYS_inotify_init1, SYS_flock,
    /* the network, and kernel memory reached through sockets */
    SYS_socket,
    /* namespaces and mounts: nothing may be widened again */
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree, SYS_move_mount,
    SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    /* large and young kernel surfaces that no such program needs */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_setup, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_fanotify_init, SYS_vmsplice, SYS_memfd_secret,
    /* the machine itself */
    SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_reboot, SYS_swapon, SYS_swapoff,
    SYS_acct, SYS_quotactl, SYS_quotactl_fd, SYS_syslog, SYS_vhangup, SYS_settimeofday, SYS_clock_settime,
    SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname,
#if defined(__x86_64__)
    SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_inotify_init,
#endif
};
/* What a file tells about itself stays when the program has ended, and neither Landlock nor an open for reading is in
 * the way of who owns it. The last line is about what of it the kernel holds in memory. */
static const int MARKING[] = {
    SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_truncate, SYS_setxattr,
    SYS_lsetxattr, SYS_fsetxattr, SYS_setxattrat, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
    SYS_removexattrat,
#if defined(__x86_64__)
    SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat,
#endif
    SYS_mincore, SYS_cachestat, SYS_fadvise64, SYS_readahead,
};
static const int SIGNALLING[] = {SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo};

enum { FILTER_SIZE = 512 };

struct filter {
    struct sock_filter code[FILTER_SIZE];
    unsigned short length;
};

static void emit(struct filter *filter, uint16_t code, uint32_t value, uint8_t if_true, uint8_t if_false) {
    if (filter->length == FILTER_SIZE) {
        errno = E2BIG;
        fail("seccomp (filter)");
    }
    filter->code[filter->length++] = (struct sock_filter){code, if_true, if_false, value};
}

static void load_word(struct filter *filter, size_t offset) {
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct filter *filter, uint32_t action) { emit(filter, BPF_RET | BPF_K, action, 0, 0); }

static void refuse(struct filter *filter, int call, int error) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    answer(filter, SECCOMP_RET_ERRNO | (uint32_t)error);
}

/* Refuse `call` where its argument number `argument` has this value. */
static void refuse_argument(struct filter *filter, int call, int argument, uint32_t value) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load_word(filter, offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(filter, SECCOMP_RET_ERRNO | EPERM);
    load_word(filter, offsetof(struct seccomp_data, nr));
}

/* Refuse `call` unless its argument number `argument` has one of these values. */
static void allow_arguments(struct filter *filter, int call, int argument, const uint32_t *values, int count) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, (uint8_t)(count + 3));
    load_word(filter, offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
    for (int i = 0; i < count; i++) emit(filter, BPF_JMP | BPF_JEQ | BPF_K, values[i], (uint8_t)(count - i), 0);
    answer(filter, SECCOMP_RET_ERRNO | EPERM);
    load_word(filter, offsetof(struct seccomp_data, nr));
}

/* Of the calls that do a hundred things: what standard libraries do. The rest marks files, has the kernel signal others,
 * or types into the terminal of whoever started us. */
static void seccomp_arguments(struct filter *filter) {
    const uint32_t terminals[] = {TCGETS, 0x802c542a /* TCGETS2 */, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX};
    const uint32_t descriptors[] = {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_SETPIPE_SZ,
                                    F_GETPIPE_SZ};
    const uint32_t itself = 0, keeper = 1, program = (uint32_t)getpid();
    allow_arguments(filter, SYS_ioctl, 1, terminals, sizeof terminals / sizeof *terminals);
    allow_arguments(filter, SYS_fcntl, 1, descriptors, sizeof descriptors / sizeof *descriptors);
    allow_arguments(filter, SYS_prlimit64, 0, &itself, 1); /* another one's limit could be no more time */
    refuse_argument(filter, SYS_prctl, 0, PR_SCHED_CORE);
    for (size_t i = 0; i < sizeof SIGNALLING / sizeof *SIGNALLING; i++) {
        if (settings.pid) refuse_argument(filter, SIGNALLING[i], 0, keeper);
        else allow_arguments(filter, SIGNALLING[i], 0, &program, 1);
    }
}

/* Keep the kernel's attack surface to what a computing program needs; a foreign ABI, which would slip past the
 * numbers below, is killed. */
static void seccomp(void) {
    struct filter filter = {.length = 0};
    load_word(&filter, offsetof(struct seccomp_data, arch));
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 1, 0);
    answer(&filter, SECCOMP_RET_KILL_PROCESS);
    load_word(&filter, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    emit(&filter, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* the x32 ABI */
    answer(&filter, SECCOMP_RET_KILL_PROCESS);
#endif
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof *FORBIDDEN; i++) refuse(&filter, FORBIDDEN[i], EPERM);
    for (size_t i = 0; !settings.work_writable && i < sizeof MARKING / sizeof *MARKING; i++)
        refuse(&filter, MARKING[i], EPERM);
    if (!settings.memory_cgroup) refuse(&filter, SYS_memfd_create, EPERM); /* memory that no process maps */
    refuse(&filter, SYS_clone3, ENOSYS); /* its flags cannot be seen from here; the C library falls back to clone */
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
    load_word(&filter, offsetof(struct seccomp_data, args));
    const uint32_t namespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                                CLONE_NEWUTS | CLONE_NEWCGROUP;
    emit(&filter, BPF_JMP | BPF_JSET | BPF_K, namespaces, 0, 1);
    answer(&filter, SECCOMP_RET_ERRNO | EPERM);
    load_word(&filter, offsetof(struct seccomp_data, nr));
    seccomp_arguments(&filter);
    answer(&filter, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {filter.length, filter.code};
    require(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "seccomp");
}

/* ---- limits ---- */

static void limit(int resource, long long value) {
    struct rlimit both = {(rlim_t)value, (rlim_t)value}; /* hard too: it cannot be raised again */
    require(setrlimit(resource, &both) == 0, "resource limits");
}

/* The kernel counts processes for each user in each user namespace. With neither of its own, a run shares the count with
 * all that this user does. */
static int counted_alone(void) { return settings.user || (settings.drop && settings.account != UNPRIVILEGED); }

static void resource_limits(void) {
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, (settings.cpu_ms + 999) / 1000 + 1); /* the keeper's clock comes first; this holds without it */
    limit(RLIMIT_FSIZE, settings.file_size);
    limit(RLIMIT_NOFILE, settings.open_files);
    limit(RLIMIT_NPROC, counted_alone() ? settings.processes : settings.processes * 16);
    limit(RLIMIT_STACK, settings.stack);
    limit(RLIMIT_MEMLOCK, 64 << 10);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_RTPRIO, 0);
    limit(RLIMIT_NICE, 0);
    limit(RLIMIT_SIGPENDING, 256);
    limit(RLIMIT_LOCKS, 256);
    const long long endless = 1LL << 46; /* for what the cgroup bounds: not infinite, so that nothing can be raised */
    limit(RLIMIT_AS, settings.address_space ? settings.address_space : endless);
    limit(RLIMIT_DATA, settings.data_size ? settings.data_size : endless);
    limit(RLIMIT_RSS, endless);
    limit(RLIMIT_RTTIME, endless);
}

/* Memory and processes of the whole run together; a per-process limit does not bound a program that forks. */
static void make_cgroups(void) {
    char path[PATH_SIZE], value[32];
    const char *memory = settings.memory_cgroup, *pids = settings.pids_cgroup;
    if (memory) {
        require(mkdir(memory, 0755) == 0 || errno == EEXIST, "memory cgroup (mkdir)");
        snprintf(value, sizeof value, "%lld", settings.memory);
        if (access(join(path, memory, "memory.max"), F_OK) == 0) {
            require(write_at(AT_FDCWD, path, value) == 0, "memory cgroup (memory.max)");
            write_at(AT_FDCWD, join(path, memory, "memory.swap.max"), "0"); /* absent without swap accounting */
        } else {
            require(write_at(AT_FDCWD, join(path, memory, "memory.limit_in_bytes"), value) == 0, "memory cgroup (limit)");
            write_at(AT_FDCWD, join(path, memory, "memory.memsw.limit_in_bytes"), value); /* absent likewise */
        }
    }
    if (pids) {
        require(mkdir(pids, 0755) == 0 || errno == EEXIST, "pids cgroup (mkdir)");
        snprintf(value, sizeof value, "%ld", settings.processes);
        require(write_at(AT_FDCWD, join(path, pids, "pids.max"), value) == 0, "pids cgroup (pids.max)");
    }
}

static void enter_cgroups(pid_t pid) {
    char path[PATH_SIZE], value[32];
    snprintf(value, sizeof value, "%d", pid);
    if (settings.memory_cgroup)
        require(write_at(AT_FDCWD, join(path, settings.memory_cgroup, "cgroup.procs"), value) == 0,
                "memory cgroup (enter)");
    if (settings.pids_cgroup)
        require(write_at(AT_FDCWD, join(path, settings.pids_cgroup, "cgroup.procs"), value) == 0, "pids cgroup (enter)");
}

static long oom_kills(void) {
    char path[PATH_SIZE], text[4096];
    if (!settings.memory_cgroup) return 0;
    int file = open(join(path, settings.memory_cgroup, "memory.events"), O_RDONLY | O_CLOEXEC);
    if (file < 0) file = open(join(path, settings.memory_cgroup, "memory.oom_control"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    char *line = strstr(text, "oom_kill ");
    return line ? strtol(line + 9, NULL, 10) : 0;
}

static void remove_cgroup(const char *path) {
    for (int attempt = 0; path && attempt < 1000; attempt++) { /* the last process leaves a moment after its end */
        if (rmdir(path) == 0 || errno == ENOENT) return;
        usleep(1000);
    }
}

/* ---- the program ---- */

/* Nothing open may be inherited but the three standard streams and what the caller names. */
static void arrange_descriptors(void) {
    struct descriptor *wanted = settings.descriptors;
    failure_pipe = fcntl(failure_pipe, F_DUPFD_CLOEXEC, FIRST_FREE);
    for (int i = 0; i < settings.descriptor_count; i++) {
        int high = fcntl(wanted[i].from, F_DUPFD_CLOEXEC, FIRST_FREE);
        require(high >= 0, "descriptors (dup)");
        wanted[i].from = high;
    }
    int next = 3;
    for (int i = 0; i < settings.descriptor_count; i++) {
        require(dup2(wanted[i].from, wanted[i].to) >= 0, "descriptors (dup2)");
        if (wanted[i].to >= next) next = wanted[i].to + 1;
    }
    /* What is left, ours included, closes itself at the exec; until then a failure can still be told. */
    const unsigned close_on_exec = 4;
    require(syscall(SYS_close_range, next, ~0U, close_on_exec) == 0, "descriptors (close_range)");
}

/* Make room for others. Many kernels share the cores out by session: then only the session's niceness counts. They
   refuse it to a user whose last session was just told; that costs speed and nothing else. */
static void step_back(void) {
    char level[16];
    snprintf(level, sizeof level, "%ld", settings.nice);
    setpriority(PRIO_PROCESS, 0, (int)settings.nice);
    write_at(host_proc, "self/autogroup", level);
}

static void become_program(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    require(setsid() >= 0, "session"); /* no controlling terminal */
    if (settings.nice) step_back();
    write_at(host_proc, "self/oom_score_adj", "1000"); /* a machine that runs out of memory ends this one first */
    const char *work = settings.mount ? "/work" : settings.work;
    require(chdir(settings.work ? work : "/") == 0, "working directory");
    if (settings.drop && (privileged || !settings.user)) drop_privileges();
    if (privileged && settings.user) {
        int uid = (int)getuid(), gid = (int)getgid(); /* of after the drop */
        require(unshare(CLONE_NEWUSER) == 0, "user namespace");
        map_user_namespace(uid, gid);
    }
    resource_limits();
    arrange_descriptors();
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    if (settings.landlock) landlock();
    if (settings.seccomp) seccomp();
    if (!settings.command) _exit(0);
    execve(settings.command[0], settings.command, settings.environment);
    if (errno == ENOMEM || errno == ENOEXEC || errno == EINVAL) kill(getpid(), SIGSEGV); /* its own fault: too large */
    fail(settings.command[0]);
}

/* ---- the keeper ---- */

static long long cpu_us_of(pid_t program) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(program, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* Something about the run as a whole is left to the keeper. */
static int counts(void) { return !settings.memory_cgroup || (!settings.pids_cgroup && !counted_alone()); }

/* How long the keeper may sleep: until the wall clock ends, until the program could have used up its CPU time, or until
 * its memory and processes are to be counted again. */
static struct timespec nap(long long wall_left, long long cpu_left) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long long shortest = cpu_left / (cores > 0 ? cores : 1);
    if (shortest < 2000) shortest = 2000;
    long long us = wall_left < shortest ? wall_left : shortest;
    if (counts() && us > CHECK_US) us = CHECK_US;
    if (us < 0) us = 0;
    return (struct timespec){us / 1000000, us % 1000000 * 1000};
}

struct process {
    int pid, parent, running, ours;
};

/* Every process of the machine; those that descend from this one are marked. */
static int list_processes(struct process *list, int room) {
    int count = 0;
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && count < room && (entry = readdir(folder));) {
        char path[PATH_SIZE], text[512], state;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        int file = entry->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
        if (file >= 0) close(file);
        if (length <= 0) continue;
        text[length] = 0;
        char *after_name = strrchr(text, ')');
        struct process p = {atoi(text), 0, 0, 0};
        if (!after_name || sscanf(after_name + 1, " %c %d", &state, &p.parent) != 2) continue;
        p.running = state != 'T' && state != 'Z' && state != 'X';
        list[count++] = p;
    }
    if (folder) closedir(folder);
    for (int found = 1; found;) {
        found = 0;
        for (int i = 0; i < count; i++)
            for (int k = 0; k < count && !list[i].ours; k++)
                if (list[i].parent == getpid() || (list[k].ours && list[k].pid == list[i].parent))
                    list[i].ours = found = 1;
    }
    return count;
}

/* Signal every descendant; how many of them were still running. */
static int signal_descendants(int signal_number) {
    static struct process list[8192];
    int count = list_processes(list, sizeof list / sizeof *list), running = 0;
    for (int i = 0; i < count; i++) {
        if (!list[i].ours) continue;
        kill(list[i].pid, signal_number);
        running += list[i].running;
    }
    return running;
}

/* With a PID namespace, the end of process 1 kills the rest. Without one, the keeper and behind it the launcher are
 * subreapers: orphans become their children. All are stopped first, since stopped ones fill up the limit of processes
 * and a fork bomb comes to rest, where killing one at a time would make room for the next. */
static void kill_descendants(void) {
    while (!settings.pid) {
        pid_t ended;
        while ((ended = waitpid(-1, NULL, WNOHANG)) > 0) {}
        if (ended < 0 && errno == ECHILD) return; /* without a child there is no descendant, and /proc is long */
        while (signal_descendants(SIGSTOP) > 0) {}
        signal_descendants(SIGKILL);
        waitpid(-1, NULL, 0);
    }
}

enum { MAX_WATCHED = 4096 };

/* The start of a file below the host's /proc, as text. */
static int read_proc(char *text, size_t size, const char *format, ...) {
    char path[128];
    va_list words;
    va_start(words, format);
    vsnprintf(path, sizeof path, format, words);
    va_end(words);
    int file = openat(host_proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, size - 1);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* Each number is followed by a space; one that is not was cut, and would be somebody else's. */
static int append_children(const char *text, int *list, int count) {
    char *end;
    for (long pid; count < MAX_WATCHED && (pid = strtol(text, &end, 10)) > 0 && *end == ' '; text = end)
        list[count++] = (int)pid;
    return count;
}

/* All descendants of this process, by the numbers that they have on the host, and how many threads they have. Orphans are
 * its children, too. */
static int find_descendants(int *list, int *threads_found) {
    char text[4096], path[64];
    *threads_found = 0;
    int count = read_proc(text, sizeof text, "thread-self/children") ? append_children(text, list, 0) : 0;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%d/task", list[i]);
        int place = openat(host_proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *threads = place < 0 ? NULL : fdopendir(place);
        for (struct dirent *thread; threads && (thread = readdir(threads));) {
            if (thread->d_name[0] == '.') continue;
            ++*threads_found;
            if (read_proc(text, sizeof text, "%d/task/%.16s/children", list[i], thread->d_name))
                count = append_children(text, list, count);
        }
        if (threads) closedir(threads);
    }
    return count;
}

static long long resident_bytes(int pid) {
    char text[128];
    long long pages;
    if (!read_proc(text, sizeof text, "%d/statm", pid) || sscanf(text, "%*s %lld", &pages) != 1) return 0;
    return pages * sysconf(_SC_PAGESIZE);
}

/* What several processes share is counted in parts. It takes long, and not everybody may read it. */
static long long proportional_bytes(int pid) {
    char text[4096];
    char *line = read_proc(text, sizeof text, "%d/smaps_rollup", pid) ? strstr(text, "\nPss:") : NULL;
    return line ? strtoll(line + 5, NULL, 10) * 1024 : resident_bytes(pid);
}

static int over_memory(const int *list, int count) {
    long long resident = 0, proportional = 0;
    for (int i = 0; i < count; i++) resident += resident_bytes(list[i]);
    for (int i = 0; i < count && resident > settings.memory; i++) proportional += proportional_bytes(list[i]);
    return proportional > settings.memory;
}

/* A limit of each process does not bound a program that forks, so where no cgroup can be had the keeper counts. */
static void check_totals(struct ending *ending) {
    static int list[MAX_WATCHED];
    int threads, count = counts() ? find_descendants(list, &threads) : 0;
    if (count == 0) return;
    if (!settings.pids_cgroup && !counted_alone() && threads > settings.processes)
        ending->by = 's', ending->value = SIGKILL;
    if (!settings.memory_cgroup && settings.memory && over_memory(list, count)) ending->by = 'm';
}

static void watch(pid_t program, struct ending *ending) {
    const long long start = now_us();
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (;;) {
        int status;
        pid_t ended;
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            if (ended != program) continue;
            ending->by = WIFEXITED(status) ? 'e' : 's';
            ending->value = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
            return;
        }
        long long wall_left = settings.wall_ms * 1000LL - (now_us() - start);
        long long cpu_left = settings.cpu_ms * 1000LL - cpu_us_of(program);
        if (cpu_left <= 0 || wall_left <= 0) {
            ending->by = cpu_left <= 0 ? 'c' : 'w';
            return;
        }
        check_totals(ending);
        if (ending->by) return;
        struct timespec pause = nap(wall_left, cpu_left);
        sigtimedwait(&child, NULL, &pause);
    }
}

static int hung_up(int pipe) {
    struct pollfd end = {pipe, 0, 0};
    return poll(&end, 1, 0) > 0 && (end.revents & POLLHUP) != 0;
}

static void keep(int released, int report) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(released, &byte, 1) != 1) _exit(125); /* the launcher is gone */
    if (!privileged && settings.user) map_user_namespace(outer_uid, outer_gid);
    if (settings.mount) enter_mount_namespace();
    else if (settings.work && !settings.work_writable) settle_access_times();
    if (!settings.pid) require(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "subreaper");
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    const long long start = now_us();
    pid_t program = fork();
    require(program >= 0, "fork");
    if (program == 0) become_program();
    for (int stream = 0; stream < 3; stream++) close(stream); /* the program alone holds its outputs open */
    for (int i = 0; i < settings.descriptor_count; i++) close(settings.descriptors[i].from);
    if (settings.drop && (privileged || !settings.user)) guard_privileges(); /* it has nothing left to set up */
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user cleared it */
    if (hung_up(released)) _exit(125);
    struct ending ending = {0};
    watch(program, &ending);
    kill(program, SIGKILL);
    kill_descendants();
    if (settings.pid) waitpid(program, NULL, 0);
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    ending.cpu_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec +
                    usage.ru_stime.tv_usec;
    ending.peak_kib = usage.ru_maxrss;
    ending.wall_us = now_us() - start;
    _exit(write(report, &ending, sizeof ending) == sizeof ending ? 0 : 125);
}

/* ---- the launcher ---- */

static void usage(const char *word) {
    fprintf(stderr, "launcher: cannot read '%s'\n", word);
    _exit(2);
}

static void switch_on(const char *control) {
    const struct {
        const char *name;
        int *value;
    } switches[] = {{"drop", &settings.drop},       {"user", &settings.user},         {"pid", &settings.pid},
                    {"mount", &settings.mount},     {"net", &settings.net},           {"ipc", &settings.ipc},
                    {"uts", &settings.uts},         {"cgroup_ns", &settings.cgroup_ns}, {"proc", &settings.proc},
                    {"landlock", &settings.landlock}, {"seccomp", &settings.seccomp}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        if (strcmp(switches[i].name, control) == 0) {
            *switches[i].value = 1;
            return;
        }
    }
    usage(control);
}

static void set_option(const char *name, char *value) {
    if (!strcmp(name, "work")) settings.work = value;
    else if (!strcmp(name, "work-rw")) settings.work = value, settings.work_writable = 1;
    else if (!strcmp(name, "read") && settings.readables < MAX_PATHS) settings.readable[settings.readables++] = value;
    else if (!strcmp(name, "env") && settings.variables < MAX_ENVIRONMENT)
        settings.environment[settings.variables++] = value;
    else if (!strcmp(name, "fd") && settings.descriptor_count < MAX_DESCRIPTORS) {
        struct descriptor *d = &settings.descriptors[settings.descriptor_count++];
        if (sscanf(value, "%d:%d", &d->from, &d->to) != 2) usage(value);
    } else if (!strcmp(name, "wall-ms")) settings.wall_ms = atol(value);
    else if (!strcmp(name, "cpu-ms")) settings.cpu_ms = atol(value);
    else if (!strcmp(name, "memory")) settings.memory = atoll(value);
    else if (!strcmp(name, "address-space")) settings.address_space = atoll(value);
    else if (!strcmp(name, "data-size")) settings.data_size = atoll(value);
    else if (!strcmp(name, "file-size")) settings.file_size = atoll(value);
    else if (!strcmp(name, "stack")) settings.stack = atoll(value);
    else if (!strcmp(name, "processes")) settings.processes = atol(value);
    else if (!strcmp(name, "open-files")) settings.open_files = atol(value);
    else if (!strcmp(name, "nice")) settings.nice = atol(value);
    else if (!strcmp(name, "account")) settings.account = atoi(value);
    else if (!strcmp(name, "group")) settings.group = atoi(value);
    else if (!strcmp(name, "control")) switch_on(value);
    else if (!strcmp(name, "memory-cgroup")) settings.memory_cgroup = value;
    else if (!strcmp(name, "pids-cgroup")) settings.pids_cgroup = value;
    else if (!strcmp(name, "status")) settings.status = atoi(value);
    else if (!strcmp(name, "lifeline")) settings.lifeline = atoi(value);
    else usage(name);
}

static void read_options(int count, char **words) {
    int at = 1;
    for (; at < count && strcmp(words[at], "--") != 0; at += 2) {
        if (strncmp(words[at], "--", 2) != 0 || at + 1 >= count) usage(words[at]);
        set_option(words[at] + 2, words[at + 1]);
    }
    settings.command = at + 1 < count ? words + at + 1 : NULL;
}

/* Wait for the keeper's report. The lifeline ends when the verifier asks for a kill, or is itself gone. */
static int receive(int report, struct ending *ending) {
    struct pollfd sources[] = {{report, POLLIN, 0}, {settings.lifeline, POLLIN, 0}};
    for (;;) {
        if (poll(sources, 2, -1) < 0) {
            if (errno == EINTR) continue;
            fail("poll");
        }
        if (sources[0].revents) return read(report, ending, sizeof *ending) == sizeof *ending;
        if (sources[1].revents) {
            ending->by = 'k';
            return 1;
        }
    }
}

static int namespaces(void) {
    return (settings.pid ? CLONE_NEWPID : 0) | (settings.mount ? CLONE_NEWNS : 0) | (settings.net ? CLONE_NEWNET : 0) |
           (settings.ipc ? CLONE_NEWIPC : 0) | (settings.uts ? CLONE_NEWUTS : 0) |
           (settings.cgroup_ns ? CLONE_NEWCGROUP : 0) | (!privileged && settings.user ? CLONE_NEWUSER : 0);
}

static int step_failed(int failures, char *text, size_t size) {
    ssize_t length = read(failures, text, size - 1);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

int main(int count, char **words) {
    settings.status = 2, settings.lifeline = 0, settings.stack = 64LL << 20, settings.account = settings.group = UNPRIVILEGED;
    read_options(count, words);
    signal(SIGPIPE, SIG_IGN);
    umask(022); /* whatever ours is: what root makes others read, and what one run makes another */
    privileged = has_sys_admin() && geteuid() == 0;
    host_proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    require(host_proc >= 0, "/proc");
    if (!privileged && settings.drop && settings.user) drop_privileges(); /* whom the namespace is made for */
    outer_uid = (int)geteuid(), outer_gid = (int)getegid();
    require(settings.mount || !settings.proc, "private /proc (without a mount namespace)");
    if (!settings.pid) require(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "subreaper");
    make_cgroups();
    int release[2], report[2], failures[2];
    require(!pipe2(release, O_CLOEXEC) && !pipe2(report, O_CLOEXEC) && !pipe2(failures, O_CLOEXEC), "pipe");
    pid_t keeper = (pid_t)syscall(SYS_clone, namespaces() | SIGCHLD, 0, 0, 0, 0);
    if (keeper < 0) fail("namespaces (clone)");
    if (keeper == 0) {
        close(release[1]), close(report[0]), close(failures[0]);
        failure_pipe = failures[1];
        keep(release[0], report[1]);
    }
    close(release[0]), close(report[1]), close(failures[1]);
    for (int stream = 0; stream < 3; stream++)
        if (stream != settings.status && stream != settings.lifeline) close(stream);
    for (int i = 0; i < settings.descriptor_count; i++) close(settings.descriptors[i].from);
    enter_cgroups(keeper);
    require(write(release[1], "", 1) == 1, "release");
    struct ending ending = {0};
    int told = receive(report[0], &ending);
    kill(keeper, SIGKILL);
    int keeper_status = 0;
    while (waitpid(keeper, &keeper_status, 0) < 0 && errno == EINTR) {}
    kill_descendants();
    long killed_for_memory = oom_kills();
    remove_cgroup(settings.memory_cgroup);
    remove_cgroup(settings.pids_cgroup);
    char failed[512];
    if (step_failed(failures[0], failed, sizeof failed)) dprintf(settings.status, "%s", failed);
    else if (!told && !killed_for_memory && !WIFSIGNALED(keeper_status))
        dprintf(settings.status, "failed keeper: it ended without a word\n");
    else /* a keeper is killed by nobody but what it keeps, which has then ended itself */
        dprintf(settings.status, "ended %c %d %lld %lld %lld %ld\n", told ? ending.by : 's', told ? ending.value : SIGKILL,
                ending.cpu_us, ending.wall_us, ending.peak_kib, killed_for_memory);
    return 0;
}
