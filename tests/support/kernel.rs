//! What the sandbox can be made of on this machine.

use std::path::Path;

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};

/// Whether this kernel has all of Landlock up to a version, asked of Landlock's own crate, which errs here if it does not.
pub(crate) fn has_landlock(version: ABI) -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let with_files = strict.handle_access(AccessFs::from_all(version));
    match Scope::from_all(version) {
        none if none.is_empty() => with_files.is_ok(),
        scopes => with_files.and_then(|ruleset| ruleset.scope(scopes)).is_ok(),
    }
}

/// Whether this kernel filters system calls.
pub(crate) fn has_seccomp_filters() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}
