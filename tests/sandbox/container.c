/* Be what Docker makes of a process by default, then execute a command: the same capabilities, the calls that its
 * seccomp profile refuses to whoever lacks CAP_SYS_ADMIN, and cgroups that cannot be written.
 *
 * `container unconfined ...` leaves the calls alone, as `--security-opt seccomp=unconfined` does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static const int KEPT[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FSETID,  CAP_FOWNER,           CAP_MKNOD,
                           CAP_NET_RAW, CAP_SETGID,      CAP_SETUID,  CAP_SETFCAP,          CAP_SETPCAP,
                           CAP_NET_BIND_SERVICE,         CAP_SYS_CHROOT, CAP_KILL,          CAP_AUDIT_WRITE};
static const int REFUSED[] = {SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_mount_setattr,
                              SYS_sethostname, SYS_setdomainname, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_bpf,
                              SYS_perf_event_open, SYS_userfaultfd, SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy};

static void require(int condition, const char *step) {
    if (condition) return;
    perror(step);
    exit(125);
}

/* Cgroups are read-only, and a part of /proc is hidden, so that no other /proc can be mounted. Only root of the host can
 * do that; in a container it is so already. */
static void lose_files(void) {
    struct {
        uint64_t set, clear, propagation, user_ns;
    } read_only = {1, 0, 0, 0};
    if (unshare(CLONE_NEWNS) != 0) return;
    require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
    if (access("/sys/fs/cgroup", F_OK) == 0)
        require(syscall(SYS_mount_setattr, -1, "/sys/fs/cgroup", 0x8000, &read_only, sizeof read_only) == 0, "cgroups");
    require(mount("/dev/null", "/proc/kcore", NULL, MS_BIND, NULL) == 0 || errno == ENOENT, "/proc/kcore");
}

static void lose_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    uint64_t kept = 0;
    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++) kept |= 1ULL << KEPT[i];
    for (int i = 0; i < 64; i++)
        if (!(kept >> i & 1)) prctl(PR_CAPBSET_DROP, i);
    require(syscall(SYS_capget, &header, data) == 0, "capget");
    data[0].permitted &= (uint32_t)kept, data[0].effective &= (uint32_t)kept, data[0].inheritable = 0;
    data[1] = (struct __user_cap_data_struct){0, 0, 0};
    require(syscall(SYS_capset, &header, data) == 0, "capset");
}

static void lose_calls(void) {
    struct sock_filter code[64];
    unsigned short n = 0;
    const uint32_t namespaces = 0x7e020000;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)REFUSED[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, namespaces, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, code};
    if (geteuid() != 0) require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    require(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "seccomp");
}

int main(int count, char **words) {
    require(count > 2, "container KIND COMMAND...");
    lose_files();
    if (strcmp(words[1], "unconfined") != 0) lose_calls(); /* while we still may */
    lose_capabilities();
    execvp(words[2], words + 2);
    require(0, words[2]);
}
