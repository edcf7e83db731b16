//! A small real file system: ext4 in a file, over a loop device.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::process::Server;
use crate::support::wait_for;

pub(crate) struct Disk {
    folder: TempDir,
    /// How often its power was cut.
    cuts: usize,
}

impl Disk {
    pub(crate) fn new(mebibytes: u64) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(
            root,
            "these tests mount file systems of their own: run them as root, with loop devices"
        );
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder, cuts: 0 };
        File::create(disk.image()).unwrap().set_len(mebibytes << 20).unwrap();
        // Nothing set aside for root: full is full.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(disk.image()));
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join(format!("image-{}", self.cuts))
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(format!("mounted-{}", self.cuts))
    }

    fn mount(&self) {
        std::fs::create_dir(self.path()).unwrap();
        // What is not synced is not written by the way, either.
        run(Command::new("mount")
            .args(["-o", "loop,commit=3600,discard"])
            .args([self.image(), self.path()]));
    }

    /// Takes it away from a server that uses it: from now on it cannot be written, as after a fault of its journal.
    pub(crate) fn abort(&self) {
        run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path()));
    }

    /// Mounts it once more, for writing or for reading alone.
    pub(crate) fn mount_anew(&self, how: &str) {
        unmount_when_free(&self.path());
        run(Command::new("mount")
            .args(["-o", &format!("loop,{how}")])
            .args([self.image(), self.path()]));
    }

    /// Fills it up until about so many bytes are left.
    pub(crate) fn fill(&self, leave: u64) -> Filler {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for piece in [1 << 20, 4096] {
            let zeros = vec![0; piece];
            while self.left() >= leave + piece as u64 {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        Filler { path }
    }

    fn left(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

/// The disks of a vault. Each has one file system and no other, so that no sync of the one makes durable what is on the other.
pub(crate) struct Disks {
    pub(crate) store: Disk,
    pub(crate) audit: Disk,
}

impl Disks {
    pub(crate) fn new(mebibytes: u64) -> Self {
        Self {
            store: Disk::new(mebibytes),
            audit: Disk::new(mebibytes),
        }
    }

    /// Where the vault has its store and its audit log.
    pub(crate) fn places(&self) -> (PathBuf, PathBuf) {
        (self.store.path().join("store"), self.audit.path().join("audit"))
    }

    /// Cuts the power: everything is gone that was not on the disks when the server stood still.
    ///
    /// The images are copied while nobody writes, so they are what the disks have; what the system holds in memory for them is not
    /// in there.
    pub(crate) fn cut_power(&mut self, server: Server) {
        stop_still(&server);
        let mut disks = [&mut self.store, &mut self.audit];
        let before = disks.each_mut().map(|disk| {
            let before = (disk.image(), disk.path());
            disk.cuts += 1;
            run(Command::new("cp")
                .arg("--sparse=always")
                .args([&before.0, &disk.image()]));
            before
        });
        server.kill();
        for ((image, path), disk) in before.iter().zip(disks) {
            unmount_when_free(path);
            std::fs::remove_file(image).unwrap();
            disk.mount();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still uses it: the folder is removed next.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// What takes the room. It is given back when this is dropped.
pub(crate) struct Filler {
    path: PathBuf,
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Stops a process, and waits until none of its threads is in the middle of a call of the system.
fn stop_still(server: &Server) {
    let pid = server.pid().to_string();
    run(Command::new("kill").args(["-STOP", &pid]));
    wait_for("all threads to stand still", || {
        let threads = std::fs::read_dir(server.proc("task")).unwrap();
        let mut states = threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(')')
                .next()
                .and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
        });
        states.all(|state| state.is_none_or(|state| state == "T")).then_some(())
    });
}

fn unmount_when_free(path: &Path) {
    wait_for("the file system to be free", || {
        let unmounted = Command::new("umount").arg(path).output().unwrap();
        unmounted.status.success().then_some(())
    });
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        ran.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
