//! Whose a file or a folder is, and whom it is open to. "Others" are everybody but its owner and its group: the group stays the
//! operator's business, because Kubernetes hands volumes to a pod through theirs (`fsGroup`). Files with keys are stricter.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::regular;

/// What is forbidden. That a file belongs to anybody but root and the user of this process is forbidden always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// Others, and the group too, may do nothing: what all other secrets depend on. One thing is allowed, because Kubernetes
    /// mounts secrets like that: what is root's may be read by its group if this process is not root.
    Sharing,
    /// Others may neither read, write nor search: what holds secrets.
    Everything,
    /// Others may not write: what decides over others.
    Writing,
}

/// A file or a folder that is not as reserved as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    /// Others may do something with it.
    #[error("mode is {mode:03o}, others may {verb} it; run: chmod {change} {}", path.display())]
    Open {
        /// Which file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What others may do.
        verb: &'static str,
        /// What `chmod` must be told.
        change: &'static str,
    },
    /// It is everybody's, and has to be.
    #[error("others use it, too; name a folder of the vault's own, within it or elsewhere: {}", path.display())]
    Shared {
        /// Which folder.
        path: PathBuf,
    },
    /// Somebody else can change it, and its mode.
    #[error("belongs to user {owner}, who could change it; {}run: chown {user} {}", as_its_owner(*user, *owner), path.display())]
    Foreign {
        /// Which file or folder.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
}

/// Root could do without the owner's help: what it looks at is another user's on purpose.
fn as_its_owner(user: u32, owner: u32) -> String {
    match user {
        0 => format!("run this as that user (setpriv --reuid {owner} --regid {owner} --clear-groups), or "),
        _ => String::new(),
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The operating system does not give it.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It might not be what its owner put there, or is no secret any more.
    #[error(transparent)]
    Exposed(#[from] Exposure),
}

/// Opens a regular file of at most `longest` bytes for reading. What was looked at is what is read, also if another takes its
/// name meanwhile.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn open(path: &Path, forbidden: Forbidden, longest: u64) -> Result<File, Unfit> {
    let file = regular::open(path, longest)?;
    match found(path, &file.metadata()?, forbidden) {
        Some(exposure) => Err(exposure.into()),
        None => Ok(file),
    }
}

/// The content of such a file.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn read(path: &Path, forbidden: Forbidden, longest: u64) -> Result<Zeroizing<Vec<u8>>, Unfit> {
    let file = open(path, forbidden, longest)?;
    Ok(regular::read(file, longest)?)
}

/// Why a folder, or a file that is not to be read now, is not as reserved as it must be; `None` if all is well.
///
/// # Errors
/// What the operating system says if the path is not to be had.
pub(crate) fn exposure(path: &Path, forbidden: Forbidden) -> io::Result<Option<Exposure>> {
    Ok(found(path, &path.metadata()?, forbidden))
}

fn found(path: &Path, metadata: &Metadata, forbidden: Forbidden) -> Option<Exposure> {
    let user = rustix::process::geteuid().as_raw();
    let holding = Holding {
        owner: metadata.uid(),
        mode: metadata.mode() & 0o777,
        // Such as `/tmp`, and what all other folders are in.
        is_everybodys: metadata.mode() & 0o1000 != 0 || path == Path::new("/"),
    };
    holding.exposure(path, forbidden, user)
}

/// Whose something is and who may do what with it.
#[derive(Clone, Copy)]
struct Holding {
    owner: u32,
    mode: u32,
    is_everybodys: bool,
}

impl Holding {
    /// What is wrong with that for a process of `user`.
    fn exposure(self, path: &Path, forbidden: Forbidden, user: u32) -> Option<Exposure> {
        let Self {
            owner,
            mode,
            is_everybodys,
        } = self;
        let path = path.to_owned();
        // Root owns what an operator or Kubernetes hands to a process of another user.
        if owner != user && owner != 0 {
            return Some(Exposure::Foreign { path, owner, user });
        }
        let (bits, change) = match forbidden {
            Forbidden::Sharing if owner != user => (0o037, "g-wx,o-rwx"),
            Forbidden::Sharing => (0o077, "600"),
            Forbidden::Everything => (0o007, "o-rwx"),
            Forbidden::Writing => (0o002, "o-w"),
        };
        let open = mode & bits;
        let verb = match open {
            0 => return None,
            _ if open & 0o022 != 0 => "write",
            _ if open & 0o044 != 0 => "read",
            _ => "enter",
        };
        if is_everybodys {
            return Some(Exposure::Shared { path });
        }
        Some(Exposure::Open {
            path,
            mode,
            verb,
            change,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ROOT: u32 = 0;
    const VAULT: u32 = 1000;
    const STRANGER: u32 = 1001;

    /// What is told about a file to a process of `user`; nothing if all is well.
    fn told(owner: u32, mode: u32, forbidden: Forbidden, user: u32) -> Option<String> {
        let holding = Holding {
            owner,
            mode,
            is_everybodys: false,
        };
        let found = holding.exposure(Path::new("/file"), forbidden, user);
        found.map(|exposure| exposure.to_string())
    }

    #[test]
    fn others_may_do_nothing_with_a_secret_and_not_write_what_decides_while_the_group_may() {
        for mode in 0..=0o777 {
            for owner in [ROOT, VAULT] {
                let secret = told(owner, mode, Forbidden::Everything, VAULT);
                assert_eq!(secret.is_some(), mode % 8 != 0, "{mode:o}");
                let deciding = told(owner, mode, Forbidden::Writing, VAULT);
                assert_eq!(deciding.is_some(), mode & 0o002 != 0, "{mode:o}");
            }
        }
    }

    #[test]
    fn a_key_is_its_owners_alone_unless_root_lets_the_group_of_another_user_read_it() {
        for mode in 0..=0o777 {
            let is_owners_alone = mode % 0o100 == 0;
            for user in [ROOT, VAULT] {
                let own = told(user, mode, Forbidden::Sharing, user);
                assert_eq!(own.is_none(), is_owners_alone, "{mode:o}");
            }
            let handed_over = told(ROOT, mode, Forbidden::Sharing, VAULT);
            let is_readable_for_its_group = mode % 0o100 == 0o040;
            assert_eq!(
                handed_over.is_none(),
                is_owners_alone || is_readable_for_its_group,
                "{mode:o}"
            );
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_refused_unless_that_is_root() {
        for forbidden in [Forbidden::Sharing, Forbidden::Everything, Forbidden::Writing] {
            assert_eq!(told(VAULT, 0o600, forbidden, VAULT), None);
            assert_eq!(told(ROOT, 0o600, forbidden, VAULT), None);
            let strangers = told(STRANGER, 0o600, forbidden, VAULT).unwrap();
            assert_eq!(
                strangers,
                "belongs to user 1001, who could change it; run: chown 1000 /file"
            );
            let roots = told(VAULT, 0o600, forbidden, ROOT).unwrap();
            assert!(
                roots.contains("run this as that user") && roots.ends_with("or run: chown 0 /file"),
                "{roots}"
            );
        }
    }

    #[test]
    fn it_is_told_what_others_may_do_and_how_to_mend_it() {
        let told = |mode, forbidden, user| told(ROOT, mode, forbidden, user).unwrap();
        for (mode, forbidden, user, verb, change) in [
            (0o755, Forbidden::Everything, VAULT, "read", "o-rwx"),
            (0o702, Forbidden::Writing, VAULT, "write", "o-w"),
            (0o701, Forbidden::Everything, VAULT, "enter", "o-rwx"),
            (0o640, Forbidden::Sharing, ROOT, "read", "600"),
            (0o660, Forbidden::Sharing, VAULT, "write", "g-wx,o-rwx"),
        ] {
            assert_eq!(
                told(mode, forbidden, user),
                format!("mode is {mode:o}, others may {verb} it; run: chmod {change} /file")
            );
        }
    }

    #[test]
    fn nobody_is_told_to_close_a_folder_that_is_everybodys() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        for path in [folder.path(), Path::new("/")] {
            let told = exposure(path, Forbidden::Everything).unwrap().unwrap().to_string();
            assert!(
                told.contains("name a folder of the vault's own") && !told.contains("chmod"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_file_is_judged_by_what_it_is_and_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, b"content").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (mode, is_fit) in [(0o600, true), (0o640, true), (0o602, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for name in [&path, &link] {
                match read(name, Forbidden::Writing, 100) {
                    Ok(content) => assert!(is_fit && *content == b"content"),
                    Err(error) => assert!(!is_fit && matches!(error, Unfit::Exposed(_)), "{error}"),
                }
            }
        }
        let missing = read(&directory.path().join("nothing"), Forbidden::Writing, 100);
        assert!(matches!(missing, Err(Unfit::Unreadable(_))));
    }
}
