//! System calls that a vault has no use for, refused by a seccomp filter. Everything else is allowed: a list of what is needed
//! would differ between C libraries and their versions, and a gap in it would end the process.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::Measure;

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
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
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

/// Binds this thread and those that it starts later. What is refused answers `EPERM`; a call in the manner of another
/// architecture ends the process.
pub(super) fn filter_system_calls() -> Measure {
    let installed = program().and_then(|program| Ok(seccompiler::apply_filter(&program)?));
    match installed {
        Ok(()) => Measure::Taken,
        Err(error) => Measure::Unavailable(error.to_string()),
    }
}

fn program() -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let refused: BTreeMap<_, _> = numbers().map(|number| (number, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into()?;
    let errno = u32::try_from(libc::EPERM)?;
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, SeccompAction::Errno(errno), architecture)?;
    Ok(filter.try_into()?)
}

#[cfg(not(target_arch = "x86_64"))]
fn numbers() -> impl Iterator<Item = i64> {
    REFUSED.iter().chain(REFUSED_HERE).copied()
}

/// On x86-64 a kernel may know each call by a second number, that of the x32 ABI, and some by a third.
#[cfg(target_arch = "x86_64")]
fn numbers() -> impl Iterator<Item = i64> {
    const X32: i64 = 0x4000_0000;
    let ours = || REFUSED.iter().chain(REFUSED_HERE).copied();
    let of_x32 = (512..=547).map(|number| number | X32);
    ours().chain(ours().map(|number| number | X32)).chain(of_x32)
}
