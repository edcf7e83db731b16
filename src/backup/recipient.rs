//! Encrypting a backup for somebody else (age, <https://age-encryption.org/v1>), and opening what was.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::str::FromStr as _;

use age::stream::StreamWriter;
use age::x25519;

/// How long a line that names a recipient may be told back in an error.
const SHOWN: usize = 80;
const AGE: &[u8] = b"age-encryption.org/";

/// Who can open a backup: the public half of an age key (X25519), `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// It is no public half of an age key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no recipient; expected is the public half of an age key, age1…, as `age-keygen` shows it")]
pub struct NotARecipient(String);

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// [`NotARecipient`]
    pub fn parse(text: &str) -> Result<Self, NotARecipient> {
        let parsed = x25519::Recipient::from_str(text);
        // Whoever gives the secret half by mistake does not find it in a log.
        let shown = if text.starts_with("age1") {
            text.chars().take(SHOWN).collect()
        } else {
            "…".to_owned()
        };
        parsed.map(Self).map_err(|_| NotARecipient(shown))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Where a backup is written: as it is, or encrypted.
pub enum Sink<W: Write> {
    /// As it is.
    Plain(W),
    /// For recipients.
    Encrypted(Box<StreamWriter<W>>),
}

impl<W: Write> Sink<W> {
    /// Writes for these recipients; for nobody in particular if there are none.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, recipients: &[Recipient]) -> io::Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(out));
        }
        let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        Ok(Self::Encrypted(Box::new(encryptor.wrap_output(out)?)))
    }

    /// Writes the end. Without it, what was encrypted does not open.
    ///
    /// # Errors
    /// Those of what is below.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Encrypted(out) => out.finish(),
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Encrypted(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Encrypted(out) => out.flush(),
        }
    }
}

/// Secret halves of age keys.
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl Identities {
    /// Reads a file as `age-keygen` writes it.
    ///
    /// # Errors
    /// That it cannot be read, or holds none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = zeroize::Zeroizing::new(io::read_to_string(File::open(path)?.take(64 * 1024))?);
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut identities: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
        for line in lines {
            let identity = x25519::Identity::from_str(line)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it holds a line that is no age identity"))?;
            identities.push(Box::new(identity));
        }
        if identities.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no age identity"));
        }
        Ok(Self(identities))
    }
}

/// What a file holds, decrypted if it is an age file and there are identities. Without them it is given as it is.
pub(super) fn decrypted<'a>(input: impl Read + 'a, identities: Option<&Identities>) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let Some(identities) = identities else {
        return Ok(Box::new(input));
    };
    if !input.fill_buf()?.starts_with(AGE) {
        return Ok(Box::new(input));
    }
    let invalid = |error| io::Error::new(kind(&error), message(&error));
    let decryptor = age::Decryptor::new_buffered(input).map_err(invalid)?;
    let identities = identities.0.iter().map(|identity| &**identity as &dyn age::Identity);
    Ok(Box::new(decryptor.decrypt(identities).map_err(invalid)?))
}

/// Whether an error tells nothing of the file itself: it could not be read at all, or not with these identities.
#[must_use]
pub fn is_of_the_reader(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || error.kind() == io::ErrorKind::PermissionDenied
}

fn kind(error: &age::DecryptError) -> io::ErrorKind {
    match error {
        age::DecryptError::NoMatchingKeys => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::InvalidData,
    }
}

/// Not age's own words, which are translated to the language of the machine.
fn message(error: &age::DecryptError) -> &'static str {
    match error {
        age::DecryptError::NoMatchingKeys => "no identity opens it: it is encrypted for other recipients",
        age::DecryptError::UnknownFormat => "it is of another version of age",
        _ => "its encryption is damaged",
    }
}
