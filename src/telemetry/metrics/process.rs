//! The process, as the operating system sees it. The files that tell are opened before the sandbox is entered, in which nothing
//! of `/proc` can be opened.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::RawDir;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// What is known of the process; no part of it is there where there is no `/proc`.
#[derive(Debug)]
pub struct Process {
    started: SystemTime,
    files: Option<Mutex<Files>>,
}

#[derive(Debug)]
struct Files {
    stat: File,
    descriptors: File,
}

/// The process in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) threads: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
}

impl Process {
    /// This process. Called once, before the sandbox is entered.
    #[must_use]
    pub fn this() -> Self {
        Self {
            started: SystemTime::now(),
            files: Files::open().ok().map(Mutex::new),
        }
    }

    pub(super) fn started_at(&self) -> f64 {
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64())
    }

    /// How many files it may have open; none: any number.
    pub(super) fn most_open_files() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }

    /// None if the system does not tell.
    pub(super) fn usage(&self) -> Option<Usage> {
        let mut files = self.files.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        files.usage()
    }
}

impl Files {
    fn open() -> io::Result<Self> {
        Ok(Self {
            stat: File::open("/proc/self/stat")?,
            descriptors: File::open("/proc/self/fd")?,
        })
    }

    fn usage(&mut self) -> Option<Usage> {
        let mut stat = String::new();
        self.stat.rewind().ok()?;
        self.stat.read_to_string(&mut stat).ok()?;
        Some(Usage {
            open_files: self.open_files().ok()?,
            ..of_stat(&stat)?
        })
    }

    fn open_files(&mut self) -> io::Result<u64> {
        self.descriptors.rewind()?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&self.descriptors, &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let name = entry?.file_name().to_bytes().first().copied();
            count += u64::from(name.is_some_and(|first| first.is_ascii_digit()));
        }
        Ok(count)
    }
}

/// What stands in `/proc/self/stat`; see proc(5).
fn of_stat(stat: &str) -> Option<Usage> {
    // The second field is the program's name, in which anything can be; from there on, none is left out.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let field = |number: usize| fields.get(number - 3).copied();
    #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are more than a million years")]
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    Some(Usage {
        cpu_seconds: seconds(field(14)? + field(15)?),
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * u64::try_from(page_size()).ok()?,
        open_files: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_knows_itself() {
        let process = Process::this();
        let before = process.usage().unwrap();
        let file = File::open("/proc/self/stat").unwrap();
        let after = process.usage().unwrap();
        assert!(before.threads > 0 && before.resident_bytes > 1 << 20 && before.virtual_bytes > before.resident_bytes);
        // Other tests open and close files too.
        assert!(before.open_files > 2 && after.open_files > 2);
        assert!(after.cpu_seconds >= before.cpu_seconds && process.started_at() > 1e9);
        drop(file);
    }

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 100 40960 3 18446744073709551615 1";
        let usage = of_stat(stat).unwrap();
        assert_eq!((usage.threads, usage.virtual_bytes), (9, 40960));
        assert_eq!(usage.resident_bytes, 3 * page_size() as u64);
        assert!(usage.cpu_seconds > 0.0);
    }
}
