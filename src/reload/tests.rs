//! When files are taken into use.

use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A source of one file, and what was made of it: each time its content, unless that begins with `bad`.
fn source(path: &Path) -> (Source, Receiver<String>) {
    let (taken, all_taken) = channel();
    let file = path.to_owned();
    let source = Source::new(Reload::Certificate, vec![path.to_owned()], move || {
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        taken.send(text.clone()).unwrap();
        assert!(!text.starts_with("fatal"), "as a mistake of ours would");
        if text.starts_with("bad") {
            Err(text)
        } else {
            Ok(Some(text))
        }
    });
    (source, all_taken)
}

fn all(taken: &Receiver<String>) -> Vec<String> {
    taken.try_iter().collect()
}

#[test]
fn a_change_is_taken_when_it_has_come_to_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let (mut source, taken) = source(&path);
    source.look(false);
    assert!(all(&taken).is_empty());
    source.look(false);
    // It may have changed before it was watched.
    assert_eq!(all(&taken), ["one"]);
    source.look(false);
    assert!(all(&taken).is_empty(), "nothing has changed");
    for text in ["three", "seven"] {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        source.look(false);
        assert!(all(&taken).is_empty(), "it may go on");
    }
    source.look(false);
    source.look(false);
    assert_eq!(all(&taken), ["seven"]);
}

#[test]
fn a_symbolic_link_that_is_turned_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // As Kubernetes swaps mounted files: file -> ..data/file, ..data -> a folder.
    for version in ["one", "two"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("file"), version).unwrap();
    }
    std::os::unix::fs::symlink("one", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/file", at("file")).unwrap();
    let (mut source, taken) = source(&at("file"));
    for _ in 0..3 {
        source.look(false);
    }
    std::os::unix::fs::symlink("two", at("..data-new")).unwrap();
    std::fs::rename(at("..data-new"), at("..data")).unwrap();
    for _ in 0..3 {
        source.look(false);
    }
    assert_eq!(all(&taken), ["one", "two"]);
}

#[test]
fn what_is_bad_is_tried_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "bad").unwrap();
    let (mut source, taken) = source(&path);
    for _ in 0..4 {
        source.look(false);
    }
    assert_eq!(all(&taken), ["bad", "bad", "bad"]);
    assert_eq!(source.trouble.as_deref(), Some("bad"));
    std::fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        source.look(false);
    }
    assert!(all(&taken).is_empty());
    assert!(source.trouble.as_ref().is_some_and(|trouble| trouble != "bad"));
    std::fs::write(&path, "good").unwrap();
    for _ in 0..3 {
        source.look(false);
    }
    assert_eq!(all(&taken), ["good"]);
    assert_eq!(source.trouble, None);
}

#[test]
fn who_asks_need_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let (mut source, taken) = source(&path);
    source.look(true);
    assert_eq!(all(&taken), ["one"]);
}

#[test]
fn what_brings_its_reading_down_is_tried_until_it_is_mended_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "fatal").unwrap();
    let (mut source, _taken) = source(&path);
    source.look(true);
    assert!(
        source
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.contains("please report it"))
    );
    std::fs::write(&path, "good").unwrap();
    source.look(true);
    assert_eq!(source.trouble, None);
}
