//! What concerns the process as a whole: umask, privileges, core dumps, debuggers.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::HardeningError;

/// For the log: whether new privileges can be gained.
pub(super) const NEW_PRIVILEGES: &str = if cfg!(target_os = "linux") {
    "none"
} else {
    "not available"
};

/// New files and folders are for their owner alone, whoever makes them.
pub(super) fn keep_new_files_from_others() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// No program that this process could be made to run has more rights than it, set-user-id or not.
#[cfg(target_os = "linux")]
pub(super) fn gain_no_privileges() -> Result<(), HardeningError> {
    rustix::thread::set_no_new_privs(true).map_err(refused("no new privileges"))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can refuse")]
pub(super) fn gain_no_privileges() -> Result<(), HardeningError> {
    Ok(())
}

/// A crash writes no memory to a file.
pub(super) fn leave_no_core_dump() -> Result<(), HardeningError> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused("no core dumps"))
}

/// No process of the same user can attach a debugger or read `/proc/PID/mem`, and no core dump goes to a handler such as
/// systemd's, which ignores the limit.
#[cfg(target_os = "linux")]
pub(super) fn keep_debuggers_out() -> Result<(), HardeningError> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("keeping debuggers out"))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can refuse")]
pub(super) fn keep_debuggers_out() -> Result<(), HardeningError> {
    Ok(())
}

fn refused(step: &'static str) -> impl Fn(rustix::io::Errno) -> HardeningError {
    move |error| HardeningError::Process {
        step,
        error: error.into(),
    }
}
