//! What the process gives up before it serves, so that a flaw in it is worth less to whoever finds one.
//!
//! Three steps, each at its time: [`Hardening::begin`] before anything secret is read, [`Hardening::lock_memory`] once the
//! configuration is known, [`Hardening::confine`] when everything is loaded that is not needed again. The last one binds the
//! calling thread and those that it starts later, so it comes before any runtime. [`Hardened::log`] tells what became of it.
//! Two rooms are of their own: `modes`, whose a file must be and whom it may be open to, and `folder`, for the vault's folders.

#[cfg(target_os = "linux")]
mod files;
pub(crate) mod folder;
mod memory;
pub(crate) mod modes;
mod open_files;
mod process;
pub(crate) mod regular;
mod sandbox;
#[cfg(target_os = "linux")]
mod system_calls;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use self::folder::{claim, would_claim};
pub use self::modes::Exposure;
use self::sandbox::Confined;
pub use self::sandbox::Reach;

/// Whether somebody asks for a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Taken where the system allows it; where it does not, the log says so.
    Auto,
    /// Taken, or the process does not start.
    Required,
    /// Not taken.
    Off,
}

/// Whether a debugger may be attached to the process and a crash may leave a core dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debugging {
    /// For a vault with made-up credentials.
    Allowed,
    /// Only root can read what the process has in memory.
    Refused,
}

/// Why the process is not hardened as it must be.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// What every system grants was not granted.
    #[error("the process cannot be hardened: {step}: {error}")]
    Process {
        /// What was asked for.
        step: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// `lock_memory` is required and the limit is too low.
    #[error(
        "hardening.lock_memory is \"required\", but memory is not locked: {reason}; {}",
        memory::REMEDY
    )]
    Memory {
        /// What is in the way.
        reason: String,
    },
    /// `sandbox` is required and the system has none.
    #[error(
        "hardening.sandbox is \"required\", but {part} is not available: {reason}; {}",
        sandbox::REMEDY
    )]
    Sandbox {
        /// Which part of it.
        part: &'static str,
        /// What is in the way.
        reason: String,
    },
    /// The system has a sandbox, and it cannot be entered.
    #[error("the sandbox cannot be entered: {part}: {reason}; {}", sandbox::REMEDY)]
    NotConfined {
        /// Which part of it.
        part: &'static str,
        /// What is in the way.
        reason: String,
    },
    /// Others may read or change what the process keeps.
    #[error("folder {}: {exposure}", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// How.
        exposure: Exposure,
    },
    /// A folder of the vault's own is not to be had.
    #[error("folder {}: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// What must stay in reach is not there.
    #[error("{}: cannot be kept in reach of the sandbox: {error}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// What decides over the process could be changed by it.
    #[error(
        "{} is in {}, where the server can write: it must not be able to change what decides over it; keep the two apart, \
         each in a folder of its own",
        file.display(),
        folder.display()
    )]
    Writable {
        /// The file.
        file: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
}

/// What became of a measure.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Measure {
    Taken,
    /// An older system knows a part of it.
    Partly {
        reason: String,
        /// Whether that will do where the measure is required.
        is_enough: bool,
    },
    /// The configuration does not want it.
    Off,
    Unavailable(String),
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => out.write_str("on"),
            Self::Partly { reason, .. } => write!(out, "partly ({reason})"),
            Self::Off => out.write_str("off"),
            Self::Unavailable(_) => out.write_str("not available"),
        }
    }
}

/// A process that is being hardened. Each step is taken once, in the order of the methods.
pub struct Hardening {
    debugging: Debugging,
    /// `None` is without limit.
    open_files: Option<u64>,
    whole_syncs: Measure,
    memory: Measure,
}

impl Hardening {
    /// What needs no configuration: new files are their owner's alone, no privileges can be gained, the limit of open files
    /// is as high as it may be, files are synced as a whole, and memory stays with the process unless `debugging` is allowed.
    ///
    /// Binds this thread and those it starts later, as [`Self::confine`] does.
    ///
    /// # Errors
    /// [`HardeningError::Process`] if the system refuses what each grants to its processes, [`HardeningError::NotConfined`] if it
    /// filters system calls and that fails.
    pub fn begin(debugging: Debugging) -> Result<Self, HardeningError> {
        process::keep_new_files_from_others();
        process::gain_no_privileges()?;
        if debugging == Debugging::Refused {
            process::leave_no_core_dump()?;
            process::keep_debuggers_out()?;
        }
        Ok(Self {
            debugging,
            open_files: open_files::raise(),
            whole_syncs: sandbox::sync_whole_files()?,
            memory: Measure::Off,
        })
    }

    /// Keeps memory out of swap, where the limit on locked memory allows it for good.
    ///
    /// # Errors
    /// [`HardeningError::Memory`] if that is required and not allowed.
    pub fn lock_memory(&mut self, demand: Demand) -> Result<(), HardeningError> {
        if demand == Demand::Off {
            return Ok(());
        }
        self.memory = memory::lock();
        match &self.memory {
            Measure::Unavailable(reason) if demand == Demand::Required => {
                Err(HardeningError::Memory { reason: reason.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Puts all files but those in `reach` out of reach, and refuses system calls that a vault has no use for.
    ///
    /// Binds this thread and those it starts later: no other may run yet.
    ///
    /// # Errors
    /// [`HardeningError::Sandbox`] if a sandbox is required and not to be had, [`HardeningError::NotConfined`] if there is one and
    /// it fails, [`HardeningError::Path`] if something in `reach` is missing, [`HardeningError::Writable`] if a file to read is
    /// where may be written.
    pub fn confine(self, demand: Demand, reach: &Reach) -> Result<Hardened, HardeningError> {
        Ok(Hardened {
            confined: sandbox::confine(demand, reach)?,
            hardening: self,
        })
    }
}

/// Finds what [`Hardening::confine`] would refuse whatever the system has, and gives nothing up.
///
/// # Errors
/// [`HardeningError::Writable`], [`HardeningError::Path`].
pub fn keeps_apart(demand: Demand, reach: &Reach) -> Result<(), HardeningError> {
    sandbox::keeps_apart(demand, reach)
}

/// A process that has given up what it can.
pub struct Hardened {
    hardening: Hardening,
    confined: Confined,
}

impl Hardened {
    /// Tells the log what is on and what is not, how that can be mended, and whether `max_connections` fit into the limit of open
    /// files.
    pub fn log(&self, max_connections: usize) {
        let Self { hardening, confined } = self;
        let may_debug = hardening.debugging == Debugging::Allowed;
        tracing::info!(
            core_dumps = if may_debug { "on" } else { "off" },
            debuggers = if may_debug { "let in" } else { "kept out" },
            new_privileges = process::NEW_PRIVILEGES,
            umask = "0077",
            memory_lock = %hardening.memory,
            file_sandbox = %confined.files,
            system_call_filter = %confined.system_calls,
            whole_syncs = %hardening.whole_syncs,
            open_files = hardening.open_files,
            "hardened"
        );
        if let Measure::Unavailable(reason) = &hardening.memory {
            tracing::warn!(
                reason,
                remedy = memory::REMEDY,
                "memory is not locked: secrets may be written to swap"
            );
        }
        if let Measure::Unavailable(reason) = &confined.files {
            tracing::warn!(
                reason,
                remedy = sandbox::REMEDY,
                "files outside of the vault's folders are in its reach"
            );
        }
        if let Measure::Partly { reason, .. } = &confined.files {
            tracing::warn!(
                reason,
                remedy = sandbox::REMEDY_OF_PARTS,
                "this kernel knows only a part of the sandbox"
            );
        }
        if let Measure::Unavailable(reason) = &confined.system_calls {
            tracing::warn!(reason, remedy = sandbox::REMEDY, "system calls are not filtered");
        }
        if let Measure::Unavailable(reason) = &hardening.whole_syncs {
            tracing::warn!(
                reason,
                remedy = sandbox::REMEDY_OF_SYNCS,
                "sled does not sync its whole file with each write: a power cut in the middle of many changes may damage the store"
            );
        }
        open_files::warn_if_too_few(hardening.open_files, max_connections);
    }
}
