//! What stays in reach of a confined thread. The sandbox binds the thread that it is entered on, so each test enters it on one
//! of its own.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::process::Command;
use std::sync::mpsc;
use std::time::SystemTime;

use landlock::ABI;
use rustix::fs::{XattrFlags, removexattr, setxattr};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use self::kernel::{has_landlock, has_seccomp_filters};
use super::*;

#[path = "../../tests/support/kernel.rs"]
mod kernel;

/// Does something on a confined thread. Nothing is done where the kernel has no sandbox.
fn confined<T: Send + 'static>(reach: Reach, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    confined_after(reach, || (), work)
}

/// The same, once something else was done on this thread, which is not confined.
fn confined_after<T: Send + 'static>(
    reach: Reach,
    meanwhile: impl FnOnce(),
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (entered, has_entered) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        let confined = confine(Demand::Auto, &reach).unwrap();
        assert_eq!(confined.files == Measure::Taken, has_landlock(ABI::V6));
        assert_eq!(
            matches!(confined.files, Measure::Unavailable(_)),
            !has_landlock(ABI::V1)
        );
        assert_eq!(confined.system_calls == Measure::Taken, has_seccomp_filters());
        if !has_landlock(ABI::V3) || !has_seccomp_filters() {
            let refused = confine(Demand::Required, &reach).err().unwrap().to_string();
            assert!(refused.contains("is not available"), "{refused}");
            return None;
        }
        entered.send(()).unwrap();
        is_done.recv().unwrap();
        Some(work())
    });
    // Nothing comes from a thread that has ended.
    if has_entered.recv().is_ok() {
        meanwhile();
        done.send(()).unwrap();
    }
    thread.join().unwrap()
}

fn is_denied<T>(outcome: &io::Result<T>) -> bool {
    outcome
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// A folder with `etc/policy.toml`, an empty `store` and `elsewhere/secret`.
struct Deployment {
    directory: tempfile::TempDir,
}

impl Deployment {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = Self { directory };
        for folder in ["etc", "elsewhere"] {
            fs::create_dir(made.path(folder)).unwrap();
        }
        fs::write(made.path("etc/policy.toml"), "policy").unwrap();
        fs::write(made.path("elsewhere/secret"), "secret").unwrap();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The folder of the store is there, as it is when a process is confined.
    fn reach(&self) -> Reach {
        crate::hardening::claim(&self.path("store")).unwrap();
        Reach {
            reads: vec![self.path("etc/policy.toml")],
            writes: vec![self.path("store")],
        }
    }
}

#[test]
fn files_outside_are_out_of_reach_also_by_a_link_or_another_name() {
    let deployment = Deployment::new();
    let reach = deployment.reach();
    symlink(deployment.path("elsewhere/secret"), deployment.path("etc/link")).unwrap();
    let wanted = [
        deployment.path("elsewhere/secret"),
        deployment.path("etc/link"),
        deployment.path("etc/../elsewhere/secret"),
        deployment.path("store/../elsewhere/secret"),
        "/etc/passwd".into(),
        "/proc/self/mem".into(),
        "/proc/self/root/etc/passwd".into(),
    ];
    for path in &wanted {
        File::open(path).unwrap();
    }
    let denied = confined(reach, move || wanted.map(|path| is_denied(&File::open(path))));
    assert!(denied.is_none_or(|denied| denied == [true; 7]), "{denied:?}");
}

#[test]
fn what_lies_beside_the_store_cannot_even_be_listed() {
    let deployment = Deployment::new();
    let folders = ["", "elsewhere", "store/..", "store/../elsewhere"].map(|name| deployment.path(name));
    let store = deployment.path("store");
    let denied = confined(deployment.reach(), move || {
        fs::read_dir(store).unwrap();
        folders.map(|folder| is_denied(&fs::read_dir(folder)))
    });
    assert!(denied.is_none_or(|denied| denied == [true; 4]), "{denied:?}");
}

#[test]
fn what_is_known_about_a_file_cannot_be_changed_anywhere() {
    let deployment = Deployment::new();
    let (secret, policy) = (deployment.path("elsewhere/secret"), deployment.path("etc/policy.toml"));
    let (owner, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let change = move || {
        let open = File::open(&policy).unwrap();
        let attribute = |path: &Path| setxattr(path, "user.note", b"new", XattrFlags::empty());
        [
            fs::set_permissions(&secret, Permissions::from_mode(0o666)),
            open.set_permissions(Permissions::from_mode(0o666)),
            chown(&secret, Some(owner), Some(group)),
            lchown(&secret, Some(owner), Some(group)),
            std::os::unix::fs::fchown(&open, Some(owner), Some(group)),
            attribute(&secret).map_err(io::Error::from),
            removexattr(&secret, "user.note").map_err(io::Error::from),
            open.set_modified(SystemTime::now()),
        ]
        .map(|outcome| is_denied(&outcome))
    };
    let allowed = change();
    assert_eq!(allowed, [false; 8], "it is the sandbox that refuses");
    let denied = confined(deployment.reach(), change);
    assert!(denied.is_none_or(|denied| denied == [true; 8]), "{denied:?}");
}

#[test]
fn what_is_in_a_readable_folder_cannot_be_changed() {
    let deployment = Deployment::new();
    let (policy, new) = (deployment.path("etc/policy.toml"), deployment.path("etc/new"));
    let store = deployment.path("store/moved");
    let denied = confined(deployment.reach(), move || {
        assert_eq!(fs::read_to_string(&policy).unwrap(), "policy");
        [
            is_denied(&OpenOptions::new().append(true).open(&policy)),
            is_denied(&File::create(&new)),
            is_denied(&fs::remove_file(&policy)),
            fs::rename(&policy, &store).is_err(),
            fs::hard_link(&policy, &store).is_err(),
        ]
    });
    assert!(denied.is_none_or(|denied| denied == [true; 5]), "{denied:?}");
    assert_eq!(
        fs::read_to_string(deployment.path("etc/policy.toml")).unwrap(),
        "policy"
    );
}

#[test]
fn everything_can_be_done_in_the_folder_of_the_store() {
    let deployment = Deployment::new();
    let store = deployment.path("store");
    confined(deployment.reach(), move || {
        fs::create_dir_all(store.join("snapshots/old")).unwrap();
        fs::write(store.join("db"), "first").unwrap();
        fs::write(store.join("db"), "1").unwrap();
        fs::rename(store.join("db"), store.join("snapshots/db")).unwrap();
        assert_eq!(fs::read_to_string(store.join("snapshots/db")).unwrap(), "1");
        fs::remove_dir_all(store.join("snapshots")).unwrap();
        assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
        File::open(store).unwrap().sync_all().unwrap();
    });
}

#[test]
fn a_file_that_is_replaced_is_read_again() {
    let deployment = Deployment::new();
    let policy = deployment.path("etc/policy.toml");
    let replace = || {
        let beside = deployment.path("etc/policy.new");
        fs::write(&beside, "another").unwrap();
        fs::rename(&beside, deployment.path("etc/policy.toml")).unwrap();
    };
    let read = confined_after(deployment.reach(), replace, move || fs::read_to_string(policy).unwrap());
    assert!(read.is_none_or(|read| read == "another"));
}

/// Kubernetes mounts a folder in which `policy.toml` leads to `..data/policy.toml` and `..data` to the newest of several folders.
#[test]
fn a_mounted_folder_may_turn_its_links() {
    let deployment = Deployment::new();
    let mount = deployment.path("etc");
    let make = |version: &str| {
        fs::create_dir(mount.join(version)).unwrap();
        fs::write(mount.join(version).join("policy.toml"), version).unwrap();
        symlink(version, mount.join("..new")).unwrap();
        fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    };
    make("..1");
    let policy = mount.join("policy.toml");
    fs::remove_file(&policy).unwrap();
    symlink("..data/policy.toml", &policy).unwrap();
    let turn = || {
        make("..2");
        fs::remove_dir_all(mount.join("..1")).unwrap();
    };
    let read = confined_after(deployment.reach(), turn, move || fs::read_to_string(policy).unwrap());
    assert!(read.is_none_or(|read| read == "..2"));
}

#[test]
fn a_link_out_of_its_folder_opens_the_folder_that_it_leads_to_and_no_other() {
    let deployment = Deployment::new();
    let (archive, policy) = (deployment.path("archive"), deployment.path("etc/policy.toml"));
    fs::create_dir(&archive).unwrap();
    fs::remove_file(&policy).unwrap();
    fs::write(archive.join("1.toml"), "first").unwrap();
    symlink(archive.join("1.toml"), &policy).unwrap();
    let turn_to = |target: PathBuf| {
        fs::remove_file(deployment.path("etc/policy.toml")).unwrap();
        symlink(target, deployment.path("etc/policy.toml")).unwrap();
    };
    let renew = || {
        fs::write(archive.join("2.toml"), "second").unwrap();
        turn_to(archive.join("2.toml"));
    };
    let path = policy.clone();
    let read = confined_after(deployment.reach(), renew, move || fs::read_to_string(path).unwrap());
    assert!(read.is_none_or(|read| read == "second"));
    let divert = || turn_to(deployment.path("elsewhere/secret"));
    let denied = confined_after(deployment.reach(), divert, move || is_denied(&File::open(policy)));
    assert_ne!(denied, Some(false));
}

#[test]
fn a_chain_of_links_opens_the_folder_of_each() {
    let deployment = Deployment::new();
    for folder in ["live", "archive"] {
        fs::create_dir(deployment.path(folder)).unwrap();
    }
    let (policy, live) = (deployment.path("etc/policy.toml"), deployment.path("live/policy.toml"));
    fs::remove_file(&policy).unwrap();
    fs::write(deployment.path("archive/1.toml"), "first").unwrap();
    symlink("../live/policy.toml", &policy).unwrap();
    symlink("../archive/1.toml", &live).unwrap();
    let renew = || {
        fs::remove_file(&live).unwrap();
        fs::write(&live, "second").unwrap();
    };
    let read = confined_after(deployment.reach(), renew, move || fs::read_to_string(policy).unwrap());
    assert!(read.is_none_or(|read| read == "second"));
}

#[test]
fn links_that_lead_in_a_circle_are_refused() {
    let deployment = Deployment::new();
    let policy = deployment.path("etc/policy.toml");
    fs::remove_file(&policy).unwrap();
    symlink("policy.toml", &policy).unwrap();
    let refused = confine(Demand::Auto, &deployment.reach()).err().unwrap().to_string();
    assert!(refused.contains("etc/policy.toml"), "{refused}");
}

#[test]
fn what_decides_may_not_be_where_the_process_can_write() {
    let deployment = Deployment::new();
    let store = deployment.path("store");
    let reach = deployment.reach();
    fs::create_dir(store.join("below")).unwrap();
    symlink(store.join("target"), deployment.path("etc/link")).unwrap();
    for name in [
        "store/policy.toml",
        "store/below/policy.toml",
        "store/target",
        "etc/link",
    ] {
        let file = deployment.path(name);
        if !file.exists() {
            fs::write(&file, "policy").unwrap();
        }
        let reads = vec![deployment.path("etc/policy.toml"), file.clone()];
        let reach = Reach { reads, ..reach.clone() };
        let refused = confine(Demand::Auto, &reach).err().unwrap().to_string();
        let named = [&file, &store.canonicalize().unwrap()].map(|path| path.display().to_string());
        assert!(
            refused.contains("where the server can write") && named.iter().all(|path| refused.contains(path)),
            "{refused}"
        );
    }
}

#[test]
fn the_root_folder_is_never_the_vaults_own() {
    let reach = Reach {
        writes: vec!["/".into()],
        ..Reach::default()
    };
    let refused = confine(Demand::Auto, &reach).err().unwrap().to_string();
    assert!(refused.contains("root folder"), "{refused}");
}

#[test]
fn what_is_required_may_be_there_in_part_but_not_too_little_of_it() {
    let partly = |is_enough| Measure::Partly {
        reason: "Landlock 2 of 6".into(),
        is_enough,
    };
    assert!(require("Landlock", &Measure::Taken).is_ok());
    assert!(require("Landlock", &partly(true)).is_ok());
    for lacking in [partly(false), Measure::Unavailable("Landlock 2 of 6".into())] {
        let refused = require("Landlock", &lacking).unwrap_err().to_string();
        assert!(
            refused.contains("Landlock is not available: Landlock 2 of 6") && refused.contains("Linux 6.2"),
            "{refused}"
        );
    }
}

#[test]
fn a_file_in_the_root_folder_does_not_open_everything() {
    let folders = [PathBuf::from("/bin"), PathBuf::from("/etc")];
    for path in readable(&folders, &[]).unwrap() {
        assert_ne!(path, Path::new("/"));
    }
}

#[test]
fn what_must_stay_in_reach_must_be_there() {
    let deployment = Deployment::new();
    let reach = Reach {
        reads: vec![deployment.path("etc/nothing")],
        ..deployment.reach()
    };
    let error = confine(Demand::Auto, &reach).err().unwrap();
    assert!(error.to_string().contains("etc/nothing"), "{error}");
}

#[test]
fn no_program_can_be_run_and_no_process_opened_up() {
    let take_from_self = || {
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        pidfd_getfd(&this, 2, PidfdGetfdFlags::empty()).map(drop)
    };
    assert!(Command::new("true").status().unwrap().success());
    take_from_self().unwrap();
    let deployment = Deployment::new();
    let outcomes = confined(deployment.reach(), move || {
        (is_denied(&Command::new("true").status()), take_from_self())
    });
    assert!(outcomes.is_none_or(|outcomes| outcomes == (true, Err(rustix::io::Errno::PERM))));
}

#[test]
fn threads_and_sockets_work_and_new_threads_are_confined_too() {
    let deployment = Deployment::new();
    let denied = confined(deployment.reach(), || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        std::thread::spawn(|| is_denied(&File::open("/etc/passwd")))
            .join()
            .unwrap()
    });
    assert_ne!(denied, Some(false));
}
