//! The sandbox: which files stay in reach, and which system calls.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::modes::{Forbidden, exposure};
use super::{Demand, HardeningError, Measure};

pub(super) const REMEDY: &str = "use Linux 5.13 or newer with Landlock and seccomp switched on, and a container runtime that \
                                 allows both; or set hardening.sandbox to \"off\"";

/// What stays in reach once the process is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Files that are read again while the process runs. Each one's whole folder stays readable, and the folder that it is in
    /// once links are followed: whoever renews a file puts a new one beside it, or turns a link.
    pub reads: Vec<PathBuf>,
    /// Folders in which everything may be read, written, made and removed. The names, and only those, of what lies beside them
    /// stay readable too.
    pub writes: Vec<PathBuf>,
}

/// The two halves of the sandbox.
pub(super) struct Confined {
    pub(super) files: Measure,
    pub(super) system_calls: Measure,
}

pub(super) fn confine(demand: Demand, reach: &Reach) -> Result<Confined, HardeningError> {
    refuse_open(&reach.writes)?;
    if demand == Demand::Off {
        return Ok(Confined {
            files: Measure::Off,
            system_calls: Measure::Off,
        });
    }
    let readable = readable(&reach.reads)?;
    let writable = make(&reach.writes)?;
    let confined = Confined {
        files: confine_files(&readable, &writable)?,
        system_calls: filter_system_calls()?,
    };
    let halves = [
        ("Landlock", &confined.files),
        ("the system call filter", &confined.system_calls),
    ];
    for (part, measure) in halves {
        if let Measure::Unavailable(reason) = measure
            && demand == Demand::Required
        {
            return Err(HardeningError::Sandbox {
                part,
                reason: reason.clone(),
            });
        }
    }
    Ok(confined)
}

#[cfg(target_os = "linux")]
use super::{files::confine_files, system_calls::filter_system_calls};

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can refuse")]
fn confine_files(_: &[PathBuf], _: &[PathBuf]) -> Result<Measure, HardeningError> {
    Ok(Measure::Unavailable("only Linux has Landlock".into()))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can refuse")]
fn filter_system_calls() -> Result<Measure, HardeningError> {
    Ok(Measure::Unavailable("only Linux has seccomp".into()))
}

/// A folder that is not there yet will be made for its owner alone.
fn refuse_open(folders: &[PathBuf]) -> Result<(), HardeningError> {
    for folder in folders.iter().filter(|folder| folder.exists()) {
        if let Some(exposure) = exposure(folder, Forbidden::Everything).map_err(missing(folder))? {
            return Err(HardeningError::Exposed {
                path: folder.clone(),
                exposure,
            });
        }
    }
    Ok(())
}

/// The folders that files can be read again from, also after they were replaced.
fn readable(files: &[PathBuf]) -> Result<Vec<PathBuf>, HardeningError> {
    let mut found = Vec::new();
    for file in files {
        let real = file.canonicalize().map_err(missing(file))?;
        let named = parent(file).canonicalize().map_err(missing(file))?;
        for folder in [named.as_path(), parent(&real)] {
            // A file in the root folder would open everything: it stays readable for as long as it is not replaced.
            found.push(if folder == Path::new("/") {
                real.clone()
            } else {
                folder.to_owned()
            });
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Makes the folders that are not there, for their owner alone, while that is still possible.
fn make(folders: &[PathBuf]) -> Result<Vec<PathBuf>, HardeningError> {
    let make = |folder: &PathBuf| {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        folder.canonicalize()
    };
    folders
        .iter()
        .map(|folder| make(folder).map_err(missing(folder)))
        .collect()
}

/// The folder of a path; a bare name is in the working directory.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}

fn missing(path: &Path) -> impl Fn(io::Error) -> HardeningError + '_ {
    |error| HardeningError::Path {
        path: path.into(),
        error,
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
