//! Files to import that somebody wrote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use tresor::pb::v1::{ProviderKind, PutCredentialRequest};

use super::Format;
use super::file::{Input, Place};
use super::line::Problems;

/// Planted into inputs; no text of ours holds it.
const CANARY: &str = "Kanarienvogel";
/// So many lines are looked at.
const MOST: usize = 64;

/// A file to import: every line is read or refused, no refusal repeats a part of it, and whoever goes on from the middle reads the
/// same.
pub(crate) fn file(data: &[u8]) {
    let Some((format, text)) = data.split_first() else {
        return;
    };
    let format = if format % 2 == 0 { Format::Csv } else { Format::Jsonl };
    let created = rustix::fs::memfd_create("import", rustix::fs::MemfdFlags::empty());
    let mut file = File::from(created.map(OwnedFd::from).expect("there is memory"));
    file.write_all(text)
        .and_then(|()| file.rewind())
        .expect("there is memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let (lines, places) = read(&path, format, Place::START);
    if let Some(place) = places.get(lines.len() / 2) {
        let (rest, _) = read(&path, format, *place);
        let expected = &lines[lines.len() / 2 + 1..];
        assert!(
            rest.len() >= expected.len() && rest[..expected.len()] == *expected,
            "the rest is another one"
        );
    }
}

type Read = Vec<(u64, Result<PutCredentialRequest, Problems>)>;

/// The lines from a place on, and the places after them.
fn read(path: &std::path::Path, format: Format, from: Place) -> (Read, Vec<Place>) {
    let kinds = HashMap::from([
        ("dat".to_owned(), ProviderKind::Login),
        ("email".to_owned(), ProviderKind::MailAccount),
    ]);
    let (mut read, mut places) = (Vec::new(), Vec::new());
    let opened = Input::open(path, Some(format)).and_then(|input| input.lines(from));
    let mut lines = match opened {
        Ok(lines) => lines,
        Err(failure) => {
            assert!(!failure.to_string().contains(CANARY));
            return (read, places);
        }
    };
    while read.len() < MOST {
        match lines.next(&kinds) {
            Ok(Some((number, line))) => {
                if let Err(problems) = &line {
                    assert!(problems.iter().all(|(_, text)| !text.contains(CANARY)));
                }
                read.push((number, line));
                places.push(lines.place());
            }
            Ok(None) => break,
            Err(failure) => {
                assert!(!failure.to_string().contains(CANARY));
                break;
            }
        }
    }
    (read, places)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_input_that_is_kept_holds_what_the_target_insists_on() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/imports");
        let mut inputs = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            super::file(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 3);
    }
}
