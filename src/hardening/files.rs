//! Files out of reach, by Landlock: the kernel refuses to open anything that no rule names.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use super::{HardeningError, Measure};

/// What is asked for, as Linux 6.12 knows it. A newer version is taken when it has been tried out; an older kernel takes what it
/// knows.
const VERSION: ABI = ABI::V6;

/// Linux 6.2. Before, nothing keeps a file outside from being truncated.
const ENOUGH: ABI = ABI::V3;

/// What the C library and sled ask about cores and limits; without answers they would guess.
const MACHINE: [&str; 2] = ["/sys/devices/system/cpu", "/sys/fs/cgroup"];

/// Where random bytes come from in a static program: its crates cannot look for the C library's `getrandom` and read these.
const RANDOMNESS: [&str; 2] = ["/dev/random", "/dev/urandom"];

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
    for path in RANDOMNESS.map(Path::new).into_iter().filter(|path| path.exists()) {
        rules.push(rule(path, AccessFs::ReadFile.into())?);
    }
    for folder in writable {
        rules.push(rule(folder, keep())?);
    }
    let failed = |reason: String| HardeningError::NotConfined {
        part: "Landlock",
        reason,
    };
    let (ruleset, landlock) = restrict(rules).map_err(|error| failed(error.to_string()))?;
    measure(&ruleset, landlock).ok_or_else(|| failed("the kernel has it and enforces nothing".into()))
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

/// Errs only over what no kernel lacks: what an older one does not know is left out.
fn restrict(rules: Vec<PathBeneath<PathFd>>) -> Result<(RulesetStatus, LandlockStatus), RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        // Neither signals to other processes nor abstract sockets of theirs, which no folder hides.
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(rules.into_iter().map(Ok::<_, RulesetError>))?
        .restrict_self()?;
    Ok((status.ruleset, status.landlock))
}

/// None if the kernel should have enforced something and has not.
fn measure(ruleset: &RulesetStatus, landlock: LandlockStatus) -> Option<Measure> {
    match (ruleset, landlock) {
        (RulesetStatus::FullyEnforced, _) => Some(Measure::Taken),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => Some(Measure::Partly {
            reason: format!("Landlock {effective_abi} of {VERSION}"),
            is_enough: effective_abi >= ENOUGH,
        }),
        (_, LandlockStatus::NotEnabled) => Some(Measure::Unavailable("Landlock is switched off in this kernel".into())),
        (_, LandlockStatus::NotImplemented) => Some(Measure::Unavailable("this kernel has no Landlock".into())),
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_enough_once_files_outside_cannot_be_truncated() {
        for (version, expected) in [(ABI::V1, false), (ABI::V2, false), (ABI::V3, true), (ABI::V5, true)] {
            let landlock = LandlockStatus::Available {
                effective_abi: version,
                kernel_abi: None,
            };
            let measure = measure(&RulesetStatus::PartiallyEnforced, landlock).unwrap();
            assert!(
                matches!(measure, Measure::Partly { is_enough, .. } if is_enough == expected),
                "{measure:?}"
            );
        }
    }

    #[test]
    fn only_a_kernel_that_lacks_it_has_no_sandbox() {
        for landlock in [LandlockStatus::NotEnabled, LandlockStatus::NotImplemented] {
            assert!(matches!(
                measure(&RulesetStatus::NotEnforced, landlock),
                Some(Measure::Unavailable(_))
            ));
        }
        let landlock = LandlockStatus::Available {
            effective_abi: VERSION,
            kernel_abi: None,
        };
        assert_eq!(measure(&RulesetStatus::NotEnforced, landlock), None);
        // A rule about nothing is a mistake of whoever wrote it.
        let file = PathFd::new("/").unwrap();
        let mistaken = PathBeneath::new(file, BitFlags::<AccessFs>::empty());
        std::thread::spawn(|| assert!(restrict(vec![mistaken]).is_err()))
            .join()
            .unwrap();
    }
}
