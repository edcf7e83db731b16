//! What the writer and the thread that syncs tell each other, in every order in which their steps can happen: a line that somebody
//! waits for is synced although no time passes, all are at the end, and nothing is called durable that is not on the disk. Any of
//! these fails it: an urgent line behind others wakes nobody; that one is urgent is forgotten after the sync instead of before; how
//! far was written is looked at after the sync; a file is left out; the end wakes nobody; a failure is not told, or by the one who
//! hears of it after the other has called the lines durable.

#[expect(clippy::duplicate_mod, reason = "it is the syncer itself that is tried")]
#[allow(dead_code, reason = "what the models do not use")]
#[path = "../sync.rs"]
mod sync;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread::{self, JoinHandle};

use self::sync::Syncer;
use super::standstill::{self as primitives, in_every_order};

/// The lines of two files, and what has become of them.
struct Disk {
    files: [Arc<File>; 2],
    content: Mutex<Content>,
    changed: Condvar,
}

struct Content {
    /// Where each line is, from the first one on, and what has become of it.
    lines: Vec<(usize, Fate)>,
    /// So many syncs fail.
    faults: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Written,
    Durable,
    /// A sync has failed that had to do with it: no later one can tell (the system reports a lost page once).
    Unknown,
}

impl Disk {
    fn new(faults: u32) -> Arc<Self> {
        let file = || Arc::new(File::open("/dev/null").unwrap());
        Arc::new(Self {
            files: [file(), file()],
            content: Mutex::new(Content {
                lines: Vec::new(),
                faults,
            }),
            changed: Condvar::new(),
        })
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let place = usize::from(std::ptr::eq(file, &raw const *self.files[1]));
        let taken = self.content().lines.len();
        // Here others can write more, which this sync does not take.
        let mut content = self.content();
        let fails = content.faults > 0;
        content.faults -= u32::from(fails);
        for (at, fate) in &mut content.lines[..taken] {
            if *at == place && *fate == Fate::Written {
                *fate = if fails { Fate::Unknown } else { Fate::Durable };
            }
        }
        self.changed.notify_all();
        if fails {
            Err(io::Error::other("a fault"))
        } else {
            Ok(())
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }
}

/// The writer's side.
struct Log {
    disk: Arc<Disk>,
    syncer: Arc<Syncer>,
    thread: JoinHandle<()>,
}

impl Log {
    fn open(faults: u32) -> Self {
        let disk = Disk::new(faults);
        let on_disk = Arc::clone(&disk);
        let syncer = Syncer::new(Duration::from_secs(1), Arc::new(move |file| on_disk.sync(file)));
        let syncing = Arc::clone(&syncer);
        let thread = thread::spawn(move || syncing.run());
        Self { disk, syncer, thread }
    }

    /// Writes the next line, and returns its number.
    fn write(&self, file: usize, is_urgent: bool) -> u64 {
        let seq = {
            let mut content = self.disk.content();
            content.lines.push((file, Fate::Written));
            content.lines.len() as u64
        };
        self.syncer.written(&self.disk.files[file], seq, is_urgent);
        self.look();
        seq
    }

    /// As long as no sync has failed, what is called durable is.
    fn look(&self) {
        // A step of this thread: the other one may take its own first.
        drop(self.disk.content());
        let progress = *self.syncer.progress().borrow();
        let content = self.disk.content();
        if progress.failures == 0 {
            let called_durable = content.lines.iter().zip(0..progress.synced);
            assert!(called_durable.into_iter().all(|((_, fate), _)| *fate == Fate::Durable));
        }
    }

    /// Syncs a file from the writer's side, as before another one begins.
    fn sync_now(&self, file: usize) {
        let synced = self.syncer.sync_now(&self.disk.files[file]);
        assert!(synced.is_ok() || self.syncer.progress().borrow().failures > 0);
        self.look();
    }

    fn wait_for(&self, line: u64) {
        let place = usize::try_from(line).unwrap() - 1;
        let mut content = self.disk.content();
        while content.lines[place].1 == Fate::Written {
            content = self.disk.changed.wait(content).unwrap();
        }
    }

    /// Ends the log, and returns how often a sync has failed.
    fn close(self) -> u64 {
        self.syncer.end();
        let Self { disk, syncer, thread } = self;
        thread.join().unwrap();
        let progress = *syncer.progress().borrow();
        let content = disk.content();
        assert!(content.lines.iter().all(|(_, fate)| *fate != Fate::Written));
        let is_told = content.lines.iter().any(|(_, fate)| *fate == Fate::Unknown);
        assert_eq!(progress.failures > 0, is_told);
        assert_eq!(syncer.take_failure(), is_told);
        if !is_told {
            assert_eq!(progress.synced, content.lines.len() as u64);
        }
        progress.failures
    }
}

#[test]
fn an_urgent_line_is_synced_whatever_stands_before_it() {
    in_every_order(3, || {
        let log = Log::open(0);
        log.write(0, false);
        let urgent = log.write(0, true);
        log.wait_for(urgent);
        let next = log.write(0, true);
        log.wait_for(next);
        assert_eq!(log.close(), 0);
    });
}

#[test]
fn at_the_end_every_line_is_synced_in_whichever_file() {
    in_every_order(3, || {
        let log = Log::open(0);
        log.write(0, false);
        log.write(1, false);
        log.write(1, false);
        assert_eq!(log.close(), 0);
    });
}

#[test]
fn after_a_failed_sync_no_line_that_it_had_to_do_with_is_called_durable() {
    in_every_order(3, || {
        let log = Log::open(1);
        log.write(0, false);
        let line = log.write(0, true);
        log.wait_for(line);
        log.write(1, true);
        assert_eq!(log.close(), 1);
    });
}

#[test]
fn a_failure_that_only_the_writer_hears_of_is_told_before_a_line_is_called_durable() {
    in_every_order(3, || {
        let log = Log::open(1);
        log.write(0, true);
        log.sync_now(0);
        log.syncer.end();
        let Log { disk, syncer, thread } = log;
        thread.join().unwrap();
        let is_lost = disk.content().lines[0].1 == Fate::Unknown;
        assert!(is_lost && syncer.progress().borrow().failures > 0);
    });
}
