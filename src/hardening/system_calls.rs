//! System calls that a vault has no use for, refused by a seccomp filter. Everything else is allowed: a list of what is needed
//! would differ between C libraries and their versions, and a gap in it would end the process.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{HardeningError, Measure};

// Newer than the crate that has the numbers of the others. From 424 on they are the same on every architecture.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;

/// Refused on every architecture.
const REFUSED: &[c_long] = &[
    // Running another program.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Reading and changing other processes, or taking their descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Another view of the file system, or a way around the one that is left.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    OPEN_TREE_ATTR,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Whose a file is, and what is known about it: Landlock does not look at these, so they would reach files outside.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_utimensat,
    // Code in the kernel, and what exploits of the kernel begin with. io_uring would also do what this filter refuses.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
    // The kernel's keys and its log.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    // The machine: its clock, name and power.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_reboot,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
/// kexec_file_load, which the crate lacks for musl.
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[c_long] = &[294];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REFUSED_HERE: &[c_long] = &[];

/// Namespaces of one's own: in them one may do much of the above, and reach more of the kernel. What `clone` does to start a
/// thread is allowed.
const NAMESPACES: &[c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Binds this thread and those that it starts later. What is refused answers `EPERM`; a call in the manner of another
/// architecture ends the process.
pub(super) fn filter_system_calls() -> Result<Measure, HardeningError> {
    apply("the system call filter", |architecture| {
        Ok(programs(architecture)?.into())
    })
}

/// Has `sync_file_range` answer as where there is none, in this thread and those that it starts later. sled then syncs its whole file
/// with each of its writes. Of what it only wrote back, a power cut can take the file's length and what the disk's cache holds; and
/// before the next checkpoint sled may write over what it has moved there.
pub(super) fn sync_whole_files() -> Result<Measure, HardeningError> {
    apply("syncing whole files", |architecture| {
        Ok(vec![without_ranges(architecture)?])
    })
}

fn apply(
    part: &'static str,
    programs: impl FnOnce(TargetArch) -> Result<Vec<BpfProgram>, BackendError>,
) -> Result<Measure, HardeningError> {
    let failed = |reason: String| HardeningError::NotConfined { part, reason };
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Measure::Unavailable("it is not made for this processor".into()));
    };
    if rustix::thread::secure_computing_mode().is_err() {
        return Ok(Measure::Unavailable("this kernel has no seccomp".into()));
    }
    for program in programs(architecture).map_err(|error| failed(error.to_string()))? {
        match seccompiler::apply_filter(&program) {
            Ok(()) => {}
            Err(Error::Seccomp(error)) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return Ok(Measure::Unavailable("this kernel has no seccomp filters".into()));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(Measure::Taken)
}

/// Two, because a filter has one answer to all that it refuses.
fn programs(architecture: TargetArch) -> Result<[BpfProgram; 2], BackendError> {
    let mut refused: BTreeMap<_, _> = in_every_abi(REFUSED.iter().chain(REFUSED_HERE).copied())
        .chain(only_in_x32())
        .map(|number| (number, Vec::new()))
        .collect();
    for number in in_every_abi([libc::SYS_clone].into_iter()) {
        refused.insert(
            number,
            NAMESPACES.iter().copied().map(has_flag).collect::<Result<_, _>>()?,
        );
    }
    // It has its flags in memory, where a filter cannot see them. The C library takes it for missing and uses `clone`.
    let hidden = in_every_abi([libc::SYS_clone3].into_iter()).map(|number| (number, Vec::new()));
    Ok([
        refuse(refused, Errno::PERM, architecture)?,
        refuse(hidden.collect(), Errno::NOSYS, architecture)?,
    ])
}

fn without_ranges(architecture: TargetArch) -> Result<BpfProgram, BackendError> {
    let ranges = in_every_abi([libc::SYS_sync_file_range].into_iter()).map(|number| (number, Vec::new()));
    refuse(ranges.collect(), Errno::NOSYS, architecture)
}

fn refuse(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    errno: Errno,
    architecture: TargetArch,
) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    SeccompFilter::new(calls, SeccompAction::Allow, answer, architecture)?.try_into()
}

/// Whether the first argument has it.
fn has_flag(flag: c_int) -> Result<SeccompRule, BackendError> {
    let flag = u64::from(flag.unsigned_abs());
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)?;
    SeccompRule::new(vec![condition])
}

#[cfg(not(target_arch = "x86_64"))]
fn in_every_abi(numbers: impl Iterator<Item = c_long>) -> impl Iterator<Item = i64> {
    numbers.map(i64::from)
}

#[cfg(not(target_arch = "x86_64"))]
fn only_in_x32() -> impl Iterator<Item = i64> {
    std::iter::empty()
}

#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// On x86-64 a kernel may know each call by a second number, that of the x32 ABI.
#[cfg(target_arch = "x86_64")]
fn in_every_abi(numbers: impl Iterator<Item = c_long>) -> impl Iterator<Item = i64> {
    numbers.flat_map(|number| [number, number | X32])
}

/// And some by a third.
#[cfg(target_arch = "x86_64")]
fn only_in_x32() -> impl Iterator<Item = i64> {
    (512..=547).map(|number| number | X32)
}

#[cfg(test)]
#[path = "system_calls_tests.rs"]
mod tests;
