//! Keeping memory out of swap.

use super::Measure;

pub(super) const REMEDY: &str = "raise the limit (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited), grant \
                                 CAP_IPC_LOCK, or use encrypted swap or none";

/// Locks what is mapped now and later, each page when it is first used, so that reserved memory costs nothing.
///
/// Only where no limit can stand in the way later: under a limit, the allocation that reaches it fails, and with it the process.
#[cfg(target_os = "linux")]
pub(super) fn lock() -> Measure {
    use rustix::mm::{MlockAllFlags, mlockall};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Memlock);
    let is_unlimited = limit.maximum.is_none();
    // Under a limit of 0 nobody may lock but those whom no limit binds. To look for CAP_IPC_LOCK instead would be fooled by
    // user namespaces, where one can have it and be bound nevertheless.
    let probe = Rlimit {
        current: if is_unlimited { None } else { Some(0) },
        maximum: limit.maximum,
    };
    let locked = setrlimit(Resource::Memlock, probe)
        .and_then(|()| mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT));
    if !is_unlimited {
        // Up to its maximum anybody may raise a limit.
        let _ = setrlimit(Resource::Memlock, limit);
    }
    match (locked, limit.maximum) {
        (Ok(()), _) => Measure::Taken,
        (Err(error), None) => Measure::Unavailable(format!("the system refuses: {error}")),
        (Err(_), Some(maximum)) => Measure::Unavailable(format!(
            "the limit on locked memory is {} KiB, and a process that reaches it ends",
            maximum / 1024
        )),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn lock() -> Measure {
    Measure::Unavailable("only Linux can lock all memory".into())
}
