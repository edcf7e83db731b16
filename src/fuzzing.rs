//! What `tests/fuzz` tries with arbitrary bytes: everything that reads what somebody else may have written. Each target insists on
//! more than that nothing panics; what on, it says itself. No part of what this crate offers.
//!
//! The module of a target stands in the room that it tries. `cargo test` runs the inputs that are kept in `tests/fuzz/corpus`.

/// A target: its name, which is the name of its folder of inputs, and what it does with one.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, but for the files that `tresor import` reads: those are the program's own (`cli::import`).
pub const TARGETS: [Target; 10] = [
    ("requests", crate::api::fuzzing::request),
    ("records", crate::vault::fuzzing::record),
    ("journals", crate::store::fuzzing::pages),
    ("backups", crate::backup::fuzzing::file),
    ("backup_edits", crate::backup::fuzzing::edited),
    ("audit", crate::audit::fuzzing::log),
    ("audit_entries", crate::audit::fuzzing::entry),
    ("configuration", crate::config::fuzzing::configuration),
    ("policy", crate::access::fuzzing::policy),
    ("identities", crate::access::fuzzing::identity),
];

/// Takes values out of an input, one after the other; from its end on there are only zeros.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(crate) fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// So many bytes at most.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A text that is as long as its first byte says.
    pub(crate) fn text(&mut self) -> String {
        let length = usize::from(self.byte());
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_input_that_is_kept_holds_what_its_target_insists_on() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fuzz/corpus")
                .join(name);
            let mut inputs = 0;
            for entry in fs::read_dir(&folder).unwrap() {
                target(&fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs > 3, "{name}");
        }
        let _ = fs::remove_dir_all(crate::vault::fuzzing::scratch());
    }
}
