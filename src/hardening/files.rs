//! Files out of reach, by Landlock: the kernel refuses to open anything that no rule names.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use super::sandbox::parent;
use super::{HardeningError, Measure};

/// What is asked for, as Linux 6.12 knows it. A newer version is taken when it has been tried out; an older kernel takes what it
/// knows.
const VERSION: ABI = ABI::V6;

/// What the C library and sled ask about cores and limits; without answers they would guess.
const MACHINE: [&str; 2] = ["/sys/devices/system/cpu", "/sys/fs/cgroup"];

/// Binds this thread and those that it starts later. Sockets stay as they are: listeners are bound already, and what may be
/// connected to is not a matter of files.
pub(super) fn confine_files(readable: &[PathBuf], writable: &[PathBuf]) -> Result<Measure, HardeningError> {
    let mut rules = Vec::new();
    for path in readable {
        let read = if path.is_dir() {
            AccessFs::ReadFile | AccessFs::ReadDir
        } else {
            AccessFs::ReadFile.into()
        };
        rules.push(rule(path, read)?);
    }
    for path in MACHINE.map(Path::new).into_iter().filter(|path| path.is_dir()) {
        rules.push(rule(path, AccessFs::ReadFile | AccessFs::ReadDir)?);
    }
    for folder in writable {
        rules.push(rule(folder, keep())?);
        // The store syncs the folder that its own is in, which means to open it.
        rules.push(rule(parent(folder), AccessFs::ReadDir.into())?);
    }
    Ok(restrict(rules).unwrap_or_else(|error| Measure::Unavailable(error.to_string())))
}

/// Everything that is done with files of one's own; nothing is run, and no device is made.
fn keep() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
    })
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, HardeningError> {
    let opened = PathFd::new(path).map_err(|error| HardeningError::Path {
        path: path.into(),
        error: std::io::Error::other(error),
    })?;
    Ok(PathBeneath::new(opened, access))
}

fn restrict(rules: Vec<PathBeneath<PathFd>>) -> Result<Measure, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        // Neither signals to other processes nor abstract sockets of theirs, which no folder hides.
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(rules.into_iter().map(Ok::<_, RulesetError>))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Measure::Taken,
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Measure::Partly(format!("Landlock {effective_abi} of {VERSION}"))
        }
        (_, LandlockStatus::NotEnabled) => Measure::Unavailable("Landlock is switched off in this kernel".into()),
        (_, LandlockStatus::NotImplemented) => Measure::Unavailable("this kernel has no Landlock".into()),
        (_, LandlockStatus::Available { .. }) => Measure::Unavailable("the kernel does not enforce it".into()),
    })
}
