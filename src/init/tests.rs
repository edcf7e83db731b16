//! What a new deployment starts from.

use std::os::unix::fs::MetadataExt;

use crate::access::{Action, Caller, Policy, Reveal};
use crate::config::Config;

use super::*;

#[test]
fn the_key_is_new_and_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let one = init(&parent.path().join("one")).unwrap();
    let other = init(&parent.path().join("other")).unwrap();
    let text = fs::read_to_string(&one.kek_file).unwrap();
    assert_eq!(STANDARD.decode(text.strip_suffix('\n').unwrap()).unwrap().len(), 32);
    assert_eq!(fs::metadata(&one.kek_file).unwrap().mode() & 0o777, 0o600);
    assert_ne!(text, fs::read_to_string(&other.kek_file).unwrap());
}

#[test]
fn the_written_configuration_and_policy_are_read_without_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let created = init(folder.path()).unwrap();
    let text = fs::read_to_string(&created.configuration).unwrap();
    let config = Config::parse(&text, &created.configuration.display().to_string(), []).unwrap();
    assert_eq!(
        config.keys.kek,
        crate::config::KekConfig::File(created.kek_file.clone())
    );
    assert_eq!(config.policy.file, created.policy);
    let policy = Policy::load(&created.policy).unwrap();
    let operator = policy.permissions(&Caller::parse("spiffe://dynarex.local/operator").unwrap());
    assert!(operator.allows_operation(Action::Operate));
    assert!(operator.allows_operation(Action::Backup));
    assert!(
        !operator.allows_some_scope(Action::Resolve, "demo", "dat"),
        "an operator needs no passwords"
    );
    let orders = policy.permissions(&Caller::parse("spiffe://dynarex.local/order-service").unwrap());
    assert_eq!(orders.allows(Action::Resolve, "demo", "dat", None), Some(Reveal::Full));
    assert!(!orders.allows_some_scope(Action::CredentialsRead, "demo", "dat"));
}

#[test]
fn the_defaults_that_the_configuration_shows_are_the_defaults() {
    let shown: String = CONFIGURATION
        .lines()
        .map(|line| uncommented(line).to_owned() + "\n")
        .collect();
    let defaults = Config::parse(CONFIGURATION, "tresor.toml", []).unwrap();
    let mut shown = Config::parse(&shown, "tresor.toml", []).unwrap();
    // This one depends on the machine; the file shows an example.
    shown.server.workers = defaults.server.workers;
    assert_eq!(shown, defaults);
}

/// `#key = value` without the `#`.
fn uncommented(line: &str) -> &str {
    let setting = line
        .strip_prefix('#')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    setting.unwrap_or(line)
}

#[test]
fn nothing_is_overwritten_and_everything_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (key, policy) = (folder.path().join("kek.key"), folder.path().join("policy.toml"));
    std::os::unix::fs::symlink("nowhere", &key).unwrap();
    fs::write(&policy, "mine").unwrap();
    let error = init(folder.path()).unwrap_err().to_string();
    let expected = format!("{}, {}: exists already", key.display(), policy.display());
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(fs::read_to_string(&policy).unwrap(), "mine");
    assert!(!is_there(&folder.path().join("tresor.toml")) && !is_there(&folder.path().join("nowhere")));
}

#[test]
fn what_cannot_be_written_whole_is_not_written_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = init(&file.join("below")).unwrap_err();
    assert!(matches!(error, InitError::File { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
