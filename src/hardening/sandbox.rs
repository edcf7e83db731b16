//! The sandbox: which files stay in reach, and which system calls.

use std::io;
use std::path::{Path, PathBuf};

use super::{Demand, HardeningError, Measure};

pub(super) const REMEDY: &str = "use Linux 6.2 or newer with Landlock and seccomp switched on, and a container runtime that \
                                 allows both; or set hardening.sandbox to \"off\"";

pub(super) const REMEDY_OF_SYNCS: &str = "use a kernel and a container runtime that allow seccomp filters";

pub(super) const REMEDY_OF_PARTS: &str = "use Linux 6.12 or newer";

/// What stays in reach once the process is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Files that are read again while the process runs. Each one's whole folder stays readable, and each folder that the file
    /// leads to by links: whoever renews a file puts a new one beside it, or turns a link.
    pub reads: Vec<PathBuf>,
    /// Folders in which everything may be read, written, made and removed. They must be there; see [`super::claim`].
    pub writes: Vec<PathBuf>,
}

/// The two halves of the sandbox.
pub(super) struct Confined {
    pub(super) files: Measure,
    pub(super) system_calls: Measure,
}

pub(super) fn confine(demand: Demand, reach: &Reach) -> Result<Confined, HardeningError> {
    if demand == Demand::Off {
        return Ok(Confined {
            files: Measure::Off,
            system_calls: Measure::Off,
        });
    }
    let writable = writable(&reach.writes)?;
    let readable = readable(&reach.reads, &writable)?;
    let confined = Confined {
        files: confine_files(&readable, &writable)?,
        system_calls: filter_system_calls()?,
    };
    if demand == Demand::Required {
        require("Landlock", &confined.files)?;
        require("the system call filter", &confined.system_calls)?;
    }
    Ok(confined)
}

/// Whether the process could change what decides over it, as [`confine`] would find. The folders need not be there.
pub(super) fn keeps_apart(demand: Demand, reach: &Reach) -> Result<(), HardeningError> {
    if demand == Demand::Off {
        return Ok(());
    }
    for folder in &reach.writes {
        is_not_the_root(folder, folder)?;
    }
    readable(&reach.reads, &reach.writes).map(drop)
}

#[cfg(target_os = "linux")]
pub(super) use super::system_calls::sync_whole_files;
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

/// sled syncs its whole file there anyway.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can refuse")]
pub(super) fn sync_whole_files() -> Result<Measure, HardeningError> {
    Ok(Measure::Taken)
}

/// What is known in part is enough if nothing outside can be changed.
fn require(part: &'static str, measure: &Measure) -> Result<(), HardeningError> {
    match measure {
        Measure::Taken | Measure::Off | Measure::Partly { is_enough: true, .. } => Ok(()),
        Measure::Unavailable(reason) | Measure::Partly { reason, .. } => Err(HardeningError::Sandbox {
            part,
            reason: reason.clone(),
        }),
    }
}

fn writable(folders: &[PathBuf]) -> Result<Vec<PathBuf>, HardeningError> {
    let resolve = |folder: &PathBuf| {
        let real = folder.canonicalize().map_err(out_of_reach(folder))?;
        is_not_the_root(folder, &real)?;
        Ok(real)
    };
    folders.iter().map(resolve).collect()
}

fn is_not_the_root(folder: &Path, real: &Path) -> Result<(), HardeningError> {
    match real.parent() {
        Some(_) => Ok(()),
        None => Err(out_of_reach(folder)(io::Error::other(
            "it is the root folder, which holds everything",
        ))),
    }
}

/// The folders that files can be read again from, also after they were replaced. None may lie where the process can write: it
/// could replace what decides over it.
fn readable(files: &[PathBuf], writable: &[PathBuf]) -> Result<Vec<PathBuf>, HardeningError> {
    let mut found = Vec::new();
    for file in files {
        for place in places(file).map_err(out_of_reach(file))? {
            if let Some(folder) = writable.iter().find(|folder| place.starts_with(folder)) {
                return Err(HardeningError::Writable {
                    file: file.clone(),
                    folder: folder.clone(),
                });
            }
            found.push(place);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// As many links as Linux follows from one name.
const MOST_LINKS: usize = 40;

/// Where a file is looked for: the folder of its name, and that of each name which a link in its place leads to.
fn places(file: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    let mut name = file.to_owned();
    for _ in 0..=MOST_LINKS {
        let folder = parent(&name).canonicalize()?;
        let is_link = name.symlink_metadata()?.is_symlink();
        // A file in the root folder would open everything: it stays readable for as long as it is not replaced.
        if folder.parent().is_some() {
            places.push(folder.clone());
        } else if !is_link {
            places.push(name.canonicalize()?);
        }
        if !is_link {
            return Ok(places);
        }
        name = folder.join(name.read_link()?);
    }
    Err(io::Error::other("it leads through too many links"))
}

/// The folder of a path; a bare name is in the working directory.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}

fn out_of_reach(path: &Path) -> impl Fn(io::Error) -> HardeningError + '_ {
    |error| HardeningError::Path {
        path: path.into(),
        error,
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
