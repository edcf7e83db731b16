//! What the filter answers, worked out from the program that the kernel gets: most of these calls cannot be made from here.

use super::*;

/// The number and the first argument of a call, as a filter sees them.
struct Call {
    number: i64,
    argument: u64,
}

/// Runs the instructions that filters of seccomp consist of (`linux/bpf_common.h`, `linux/seccomp.h`).
fn answer(program: &BpfProgram, call: &Call) -> u32 {
    let word = |offset| match offset {
        0 => u32::try_from(call.number).unwrap(),
        // The architecture: x86-64 or AArch64 (`linux/audit.h`).
        4 if cfg!(target_arch = "x86_64") => 0xc000_003e,
        4 => 0xc000_00b7,
        16 => u32::try_from(call.argument & 0xffff_ffff).unwrap(),
        20 => u32::try_from(call.argument >> 32).unwrap(),
        other => panic!("nothing is known at {other}"),
    };
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let step = &program[at];
        let jump = |is_so: bool| usize::from(if is_so { step.jt } else { step.jf });
        at += 1;
        match step.code {
            0x20 => accumulator = word(step.k),
            0x54 => accumulator &= step.k,
            0x05 => at += usize::try_from(step.k).unwrap(),
            0x15 => at += jump(accumulator == step.k),
            0x25 => at += jump(accumulator > step.k),
            0x35 => at += jump(accumulator >= step.k),
            0x06 => return step.k,
            other => panic!("{other:#x} is no instruction that is known"),
        }
    }
}

/// The error that a call gets; none if it is made.
fn error(number: i64, argument: u64) -> Option<Errno> {
    const ERRNO: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let architecture = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let [refused, hidden] = programs(architecture).unwrap();
    let programs = [refused, hidden, without_ranges(architecture).unwrap()];
    let answers = programs.map(|program| answer(&program, &Call { number, argument }));
    let strictest = answers.into_iter().min().unwrap();
    if strictest == ALLOW {
        return None;
    }
    assert_eq!(strictest & 0xffff_0000, ERRNO);
    Some(Errno::from_raw_os_error(i32::try_from(strictest & 0xffff).unwrap()))
}

#[test]
fn a_thread_may_be_started_and_no_namespace_made() {
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let flags = |flags: c_int| u64::from(flags.unsigned_abs());
    assert_eq!(error(libc::SYS_clone, flags(thread)), None);
    assert_eq!(error(libc::SYS_clone, flags(libc::SIGCHLD)), None);
    for namespace in NAMESPACES {
        for others in [0, libc::SIGCHLD, thread, libc::CLONE_NEWUSER] {
            let asked = flags(namespace | others);
            assert_eq!(error(libc::SYS_clone, asked), Some(Errno::PERM), "{asked:#x}");
            // The kernel looks at the lower half alone.
            assert_eq!(error(libc::SYS_clone, asked | 1 << 40), Some(Errno::PERM), "{asked:#x}");
        }
    }
}

#[test]
fn clone3_is_as_if_there_were_none() {
    for argument in [0, u64::MAX] {
        assert_eq!(error(libc::SYS_clone3, argument), Some(Errno::NOSYS));
    }
}

#[test]
fn everything_on_the_list_is_refused_whatever_its_arguments_and_by_each_of_its_numbers() {
    for number in in_every_abi(REFUSED.iter().chain(REFUSED_HERE).copied()).chain(only_in_x32()) {
        for argument in [0, 3, u64::MAX] {
            assert_eq!(error(number, argument), Some(Errno::PERM), "{number}");
        }
    }
}

#[test]
fn what_a_vault_does_is_allowed() {
    for number in [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_openat,
        libc::SYS_mmap,
        libc::SYS_fdatasync,
        libc::SYS_fsync,
        libc::SYS_ftruncate,
        libc::SYS_renameat2,
        libc::SYS_copy_file_range,
        libc::SYS_futex,
        libc::SYS_accept4,
        libc::SYS_epoll_pwait,
        libc::SYS_getrandom,
    ] {
        for argument in [0, u64::MAX] {
            assert_eq!(error(number, argument), None, "{number}");
        }
    }
}

#[test]
fn whole_files_are_synced_and_no_ranges() {
    assert_eq!(error(libc::SYS_sync_file_range, 0), Some(Errno::NOSYS));
    for whole in [libc::SYS_fsync, libc::SYS_fdatasync] {
        assert_eq!(error(whole, 0), None);
    }
}
