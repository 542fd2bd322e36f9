//! Docker's default system-call filter as data: what a container may call, and with which
//! capability it may call more.
//!
//! Everything not named gets EPERM. `clone3` gets ENOSYS, because its flags lie in memory where a
//! filter cannot look, and libraries then fall back to `clone`, whose namespace flags are refused.
//! Names unknown to this kernel or architecture are skipped by the runtime.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use std::collections::HashSet;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// Address family of sockets to the hypervisor.
const AF_VSOCK: u64 = 40;
/// `personality` values without effect on protection: Linux, uname 2.6, 32 bit, both, query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];

const ALLOWED: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 \
    fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv \
    futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 \
    getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid \
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit \
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid \
    gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat \
    listen listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat \
    mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget \
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc \
    pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead \
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
    removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam \
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority \
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid \
    setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx \
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times \
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat \
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev process_vm_readv \
    process_vm_writev ptrace arch_prctl modify_ldt arm_fadvise64_64 arm_sync_file_range \
    sync_file_range2 breakpoint cacheflush set_tls";

/// System calls that come with a capability.
const WITH_CAPABILITY: [(Capability, &str); 10] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::Syslog, "syslog"),
];

/// The filter for a container with these capabilities.
pub fn profile(capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp, OciSpecError> {
    let allow = LinuxSeccompAction::ScmpActAllow;
    let mut calls = vec![call(ALLOWED, allow, None, vec![])?];
    for value in PERSONALITIES {
        let equal = arg(0, value, None, LinuxSeccompOperator::ScmpCmpEq)?;
        calls.push(call("personality", allow, None, vec![equal])?);
    }
    let other_family = arg(0, AF_VSOCK, None, LinuxSeccompOperator::ScmpCmpNe)?;
    calls.push(call("socket", allow, None, vec![other_family])?);
    for (capability, names) in WITH_CAPABILITY {
        if capabilities.contains(&capability) {
            calls.push(call(names, allow, None, vec![])?);
        }
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        let no_namespace = arg(0, CLONE_NAMESPACES, Some(0), masked)?;
        calls.push(call("clone", allow, None, vec![no_namespace])?);
        calls.push(call("clone3", LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), vec![])?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .architectures(architectures())
        .syscalls(calls)
        .build()
}

/// This machine's instruction sets: the 32-bit ones too, or a program could switch to them.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn call(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut call = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        call = call.errno_ret(errno);
    }
    if !args.is_empty() {
        call = call.args(args);
    }
    call.build()
}

fn arg(
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
) -> Result<LinuxSeccompArg, OciSpecError> {
    let mut arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(two) = value_two {
        arg = arg.value_two(two);
    }
    arg.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[Capability]) -> HashSet<String> {
        let profile = profile(&capabilities.iter().copied().collect()).unwrap();
        let calls = profile.syscalls().as_ref().unwrap().iter();
        let whole =
            calls.filter(|c| c.action() == LinuxSeccompAction::ScmpActAllow && c.args().is_none());
        whole.flat_map(|c| c.names().clone()).collect()
    }

    #[test]
    fn dangerous_calls_need_their_capability() {
        let plain = allowed(&[Capability::SysChroot]);
        assert!(plain.contains("read") && plain.contains("chroot"));
        for call in "unshare mount umount2 setns keyctl add_key request_key bpf kexec_load reboot \
            swapon init_module io_uring_setup userfaultfd clone3 clone pivot_root"
            .split_whitespace()
        {
            assert!(!plain.contains(call), "{call}");
        }
        let admin = allowed(&[Capability::SysAdmin]);
        assert!(admin.contains("mount") && admin.contains("unshare") && admin.contains("clone"));
    }

    #[test]
    fn no_call_is_listed_twice() {
        let names: Vec<&str> = ALLOWED.split_whitespace().collect();
        let distinct: HashSet<&&str> = names.iter().collect();
        assert_eq!(names.len(), distinct.len());
    }
}
