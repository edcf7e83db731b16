//! Reading a backup, and judging whether it is whole and whose it is.

use std::io::{self, Read};

use super::format::{Decoder, End, Flaw, Header, Part};
use super::recipient::{Identities, decrypted};
use crate::audit::Keys;
use crate::keyring::{OpenedKeys, PublicKey, TokenKind};
use crate::store::{Key, Revision};
use crate::time::Timestamp;

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// Why a file is not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The file cannot be read, or not be decrypted.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something is wrong with it.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// Whoever it is read for does not go on.
    #[error(transparent)]
    Stopped(E),
}

/// A record or a change of one: its key, the revision, and the value unless it was removed.
pub(crate) type Write<'a> = (Key, Revision, Option<&'a [u8]>);

/// A backup that was read to its end and is whole. Whose it is shows in its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// How it begins.
    pub header: Header,
    /// How it ends.
    pub end: End,
    /// How long it is, without what it may be encrypted with.
    pub bytes: u64,
}

/// Why nobody vouches for a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// The signature is not over what the backup says.
    #[error("its signature does not fit")]
    Wrong,
    /// Somebody else has signed it.
    #[error("it is of another vault: it is signed with the key {kid}, which is not among this vault's")]
    Foreign {
        /// With which key.
        kid: String,
    },
}

/// Who says which keys are the vault's.
#[derive(Clone, Copy)]
pub enum Judge<'a> {
    /// The key-encryption key: these it has opened.
    Opened(&'a OpenedKeys),
    /// Whoever has given this set of public keys.
    Published(&'a Keys),
}

impl Backup {
    /// The id of the key that it says has signed it.
    #[must_use]
    pub fn kid(&self) -> String {
        self.public_key().kid().to_owned()
    }

    /// That the signature fits the key that the backup itself names. Anybody can make such a one.
    ///
    /// # Errors
    /// [`Unsigned::Wrong`]
    pub fn is_consistent(&self) -> Result<(), Unsigned> {
        let End {
            signature, statement, ..
        } = &self.end;
        if self.public_key().has_signed(TokenKind::Backup, signature, statement) {
            Ok(())
        } else {
            Err(Unsigned::Wrong)
        }
    }

    /// That the vault has signed it.
    ///
    /// # Errors
    /// [`Unsigned`]
    pub fn is_signed(&self, judge: Judge<'_>) -> Result<(), Unsigned> {
        self.is_consistent()?;
        let kid = self.kid();
        let is_known = match judge {
            Judge::Opened(keys) => keys.public_key(&kid).is_some(),
            Judge::Published(keys) => keys.has(&kid, &self.end.public_key),
        };
        if is_known {
            Ok(())
        } else {
            Err(Unsigned::Foreign { kid })
        }
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.end.public_key, Timestamp::EPOCH)
    }
}

/// A backup that is being read in pieces.
pub struct Reading {
    decoder: Decoder,
    header: Option<Header>,
    end: Option<End>,
    bytes: u64,
}

impl Reading {
    /// Begins.
    #[must_use]
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            header: None,
            end: None,
            bytes: 0,
        }
    }

    /// Takes the next piece, and gives the entries that are whole by then, some at a time. None of them is to be trusted before
    /// the end.
    pub(super) fn feed<E>(
        &mut self,
        piece: &[u8],
        visit: &mut dyn FnMut(&[Write<'_>]) -> Result<(), E>,
    ) -> Result<(), ReadError<E>> {
        self.bytes += piece.len() as u64;
        for part in self.decoder.feed(piece)? {
            match part {
                Part::Begun(header) => self.header = Some(header),
                Part::Done(end) => self.end = Some(*end),
                Part::Entries(entries) => {
                    let write = |entry: &'_ crate::pb::backup::Entry| (Key::new(&entry.key), Revision(entry.revision));
                    let writes: Vec<Write<'_>> = entries
                        .iter()
                        .map(|entry| {
                            let (key, revision) = write(entry);
                            (key, revision, entry.value.as_deref())
                        })
                        .collect();
                    visit(&writes).map_err(ReadError::Stopped)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the next piece of a backup that is only looked at.
    ///
    /// # Errors
    /// [`Flaw`]
    pub fn check(&mut self, piece: &[u8]) -> Result<(), Flaw> {
        match self.feed::<std::convert::Infallible>(piece, &mut |_| Ok(())) {
            Err(ReadError::Flaw(flaw)) => Err(flaw),
            Ok(()) | Err(ReadError::Io(_) | ReadError::Stopped(_)) => Ok(()),
        }
    }

    /// That there is no more: then it is a whole backup, or none.
    ///
    /// # Errors
    /// [`Flaw`]
    pub fn finish(self) -> Result<Backup, Flaw> {
        self.decoder.finish()?;
        match (self.header, self.end) {
            (Some(header), Some(end)) => Ok(Backup {
                header,
                end,
                bytes: self.bytes,
            }),
            _ => Err(Flaw::NotABackup),
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads a backup to its end and gives its entries, some at a time. None of them is to be trusted before this returns.
///
/// # Errors
/// [`ReadError`]
pub fn read<E>(
    input: impl Read,
    identities: Option<&Identities>,
    mut visit: impl FnMut(&[Write<'_>]) -> Result<(), E>,
) -> Result<Backup, ReadError<E>> {
    let mut input = decrypted(input, identities)?;
    let mut reading = Reading::new();
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(reading.finish()?),
            Ok(length) => reading.feed(&piece[..length], &mut visit)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
