//! Whom the files of a deployment may be open to.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::process::{Server, prepare, refusal, serve_command};

/// Opens a file to others, insists that nothing starts, and returns what is told.
fn told_about(directory: &Path, file: &str, mode: u32) -> String {
    let path = directory.join(file);
    let before = path.metadata().unwrap().permissions();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let told = refusal(&mut serve_command(directory)).join("\n");
    fs::set_permissions(&path, before).unwrap();
    assert!(told.contains(&path.display().to_string()), "{told}");
    told
}

#[test]
fn what_is_open_to_others_is_refused_with_how_to_mend_it() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    fs::create_dir(directory.path().join("data")).unwrap();
    for (file, mode, wrong, mend) in [
        ("tresor.toml", 0o666, "others may write", "chmod o-w"),
        ("policy.toml", 0o646, "others may write", "chmod o-w"),
        ("tls/server.pem", 0o646, "others may write", "chmod o-w"),
        ("tls/client-ca.pem", 0o666, "others may write", "chmod o-w"),
        ("tls/server.key", 0o644, "others may read", "chmod o-rwx"),
        ("data", 0o755, "others may read", "chmod o-rwx"),
        ("data", 0o773, "others may write", "chmod o-rwx"),
        ("kek.key", 0o640, "others may read", "chmod 600"),
    ] {
        let told = told_about(directory.path(), file, mode);
        assert!(told.contains(wrong) && told.contains(mend), "{told}");
    }
    assert!(fs::read_dir(directory.path().join("data")).unwrap().next().is_none());
}

#[tokio::test]
async fn the_group_may_share_what_is_not_the_key_file() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    fs::create_dir(directory.path().join("data")).unwrap();
    for (file, mode) in [
        ("tresor.toml", 0o664),
        ("policy.toml", 0o664),
        ("tls/server.key", 0o440),
        ("data", 0o2770),
    ] {
        fs::set_permissions(directory.path().join(file), Permissions::from_mode(mode)).unwrap();
    }
    Server::serve(directory.path(), &[]).stop().await;
}
