//! The chain: each line holds the hash of the one before it.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256, most of all of a line without its line end; in text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first line of a log says of the line before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line, or of something that a line tells of.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash that `text` spells, in exactly the form in which it is written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let is_as_written = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        is_as_written.then_some(Self(bytes))
    }
}

impl Hash {
    /// Appends its text.
    fn push_hex(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + 2 * self.0.len(), b'0');
        hex::encode_to_slice(self.0, &mut out[start..]).expect("there are two digits for each byte");
    }
}

impl From<[u8; 32]> for Hash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl From<Sha256> for Hash {
    fn from(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        out.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// How far a chain has come: the number and the hash of its newest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The line's number. The first line of a log is 1.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Link {
    /// Before the first line.
    pub const START: Self = Self {
        seq: 0,
        hash: Hash::NONE,
    };

    /// Appends the next line, with its line end, and moves on to it. `body` is the inside of a JSON object.
    pub(crate) fn append(&mut self, lines: &mut Vec<u8>, time: &str, body: &str) {
        let start = self.open(lines, time, body);
        lines.push(b'}');
        self.close(lines, start);
    }

    /// Appends the next line with a signature over it: the payload is the line as it would be without `jws`.
    pub(super) fn append_signed(
        &mut self,
        lines: &mut Vec<u8>,
        time: &str,
        body: &str,
        sign: impl FnOnce(&[u8]) -> String,
    ) {
        let start = self.open(lines, time, body);
        lines.push(b'}');
        let signature = sign(&lines[start..]);
        lines.pop();
        lines.extend_from_slice(SIGNATURE);
        lines.extend_from_slice(signature.as_bytes());
        lines.extend_from_slice(b"\"}");
        self.close(lines, start);
    }

    /// Writes a line but for its closing brace, and returns where it begins.
    fn open(self, lines: &mut Vec<u8>, time: &str, body: &str) -> usize {
        use std::io::Write as _;

        let start = lines.len();
        write!(lines, r#"{{"seq":{}"#, self.seq + 1).expect("writing to memory cannot fail");
        for part in [r#","time":""#, time, r#"","#, body, r#","prev":""#] {
            lines.extend_from_slice(part.as_bytes());
        }
        self.hash.push_hex(lines);
        lines.push(b'"');
        start
    }

    fn close(&mut self, lines: &mut Vec<u8>, start: usize) {
        self.seq += 1;
        self.hash = Hash::of(&lines[start..]);
        lines.push(b'\n');
    }
}

/// What stands between a checkpoint's payload and its signature.
const SIGNATURE: &[u8] = b",\"jws\":\"";

/// The payload and the signature of a checkpoint's line.
pub(super) fn signed_parts(line: &[u8]) -> Option<(Vec<u8>, &str)> {
    let at = line.windows(SIGNATURE.len()).rposition(|window| window == SIGNATURE)?;
    let signature = line[at + SIGNATURE.len()..].strip_suffix(b"\"}")?;
    let payload = [&line[..at], b"}"].concat();
    Some((payload, std::str::from_utf8(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_holds_the_hash_of_the_one_before() {
        let (mut link, mut lines) = (Link::START, Vec::new());
        link.append(&mut lines, "2026-01-01T00:00:00.000Z", r#""event":"one""#);
        let first = link;
        link.append(&mut lines, "2026-01-01T00:00:00.001Z", r#""event":"two""#);
        let text = String::from_utf8(lines).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let zeros = "0".repeat(64);
        assert_eq!(
            lines[0],
            format!(r#"{{"seq":1,"time":"2026-01-01T00:00:00.000Z","event":"one","prev":"{zeros}"}}"#)
        );
        assert_eq!(first.hash, Hash::of(lines[0].as_bytes()));
        let second: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(second["prev"], first.hash.to_string());
        assert_eq!(
            link,
            Link {
                seq: 2,
                hash: Hash::of(lines[1].as_bytes())
            }
        );
    }

    #[test]
    fn a_signed_line_gives_back_what_was_signed() {
        let (mut link, mut lines, mut signed) = (Link::START, Vec::new(), Vec::new());
        link.append_signed(&mut lines, "t", r#""event":"checkpoint""#, |payload| {
            signed = payload.to_vec();
            "a..b".into()
        });
        let written = lines.strip_suffix(b"\n").unwrap();
        assert_eq!(signed_parts(written).unwrap(), (signed, "a..b"));
        assert_eq!(link.hash, Hash::of(written));
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = Hash::of(b"x");
        let text = hash.to_string();
        assert_eq!(Hash::parse(&text), Some(hash));
        for other in [text.to_uppercase(), format!("{text}0"), String::new(), "g".repeat(64)] {
            assert_eq!(Hash::parse(&other), None, "{other}");
        }
    }
}
