//! The file: a line that names the format, then frames. Each is its length (4 bytes, big-endian) and a protobuf
//! ([backup.proto](../../proto/tresor/backup/v1/backup.proto)).
//!
//! Every chunk's digest covers everything before it, and the signature at the end covers the last digest: no byte can change and
//! no frame can be left out, moved or come from another backup.

use std::io;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::pb::backup as pb;
use crate::store::Revision;
use crate::time::Timestamp;

/// What every backup begins with, whatever its format.
const NAME: &[u8] = b"tresor backup ";
/// What one of this format begins with.
pub(super) const FIRST_LINE: &[u8] = b"tresor backup 1\n";
/// How long the first line of any format is, at most.
const LONGEST_FIRST_LINE: usize = 32;
/// What a file begins with that is encrypted for a recipient.
const AGE: &[u8] = b"age-encryption.org/";
/// The largest chunk before it is compressed, and the largest frame, in bytes. The store takes no record of such a size.
pub(super) const LARGEST_CHUNK: usize = 32 << 20;
const LARGEST_FRAME: usize = LARGEST_CHUNK + (1 << 20);
/// Zstandard's own default. What is sealed does not get smaller; keys and headers do, at any level.
const LEVEL: i32 = 3;

type Digest = [u8; 32];

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It begins with something else.
    #[error("it is no backup of a vault")]
    NotABackup,
    /// It is an age file.
    #[error("it is encrypted for a recipient; name the file with the identity that opens it: --identity FILE")]
    ForRecipient,
    /// Another program wrote it.
    #[error("it has the format {found:?}; this program reads format 1; use the program that wrote it, or a newer one")]
    OtherFormat {
        /// What it says.
        found: String,
    },
    /// A newer program's store is in it.
    #[error(
        "it is of a store of format {found}; this program knows up to format {}",
        crate::store::FORMAT
    )]
    NewerStore {
        /// The store's format.
        found: u32,
    },
    /// A frame is not as it was written.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What was seen.
        what: &'static str,
    },
    /// A chunk is in another's place.
    #[error("its parts are not in order at byte {at}: part {found} stands where part {expected} belongs")]
    Misplaced {
        /// Where the chunk begins.
        at: u64,
        /// Its number.
        found: u64,
        /// The number that belongs there.
        expected: u64,
    },
    /// It ends too early.
    #[error("it was cut short: it ends at byte {at}, after {chunks} parts, without its end")]
    CutShort {
        /// Its length.
        at: u64,
        /// How many chunks there are.
        chunks: u64,
    },
    /// Something follows.
    #[error("something follows on its end, at byte {at}")]
    Continued {
        /// Where.
        at: u64,
    },
}

/// How a backup begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random.
    pub id: [u8; 16],
    /// When it was begun.
    pub begun_at: Timestamp,
    /// The version of the program that made it.
    pub program: String,
    /// The version of the store's format.
    pub store_format: u32,
    /// The newest durable revision when it was begun.
    pub begun_at_revision: Revision,
}

/// How a backup ends. Nobody vouches for it until the signature is [verified](super::Backup::is_signed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What the vault says of it.
    pub(super) statement: Vec<u8>,
    /// The signature over that, detached.
    pub(super) signature: String,
    /// The revision that it is of.
    pub revision: Revision,
    /// How many entries there are.
    pub entries: u64,
    /// When it was done.
    pub done_at: Timestamp,
    /// The public half of the key that signs.
    pub(super) public_key: [u8; 32],
    /// The newest signed line of the audit log.
    pub audit_checkpoint: String,
}

/// A part of a backup.
pub(super) enum Part {
    Begun(Header),
    Entries(Vec<pb::Entry>),
    Done(Box<End>),
}

fn next_digest(before: &Digest, number: u64, data: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(number.to_be_bytes());
    hasher.update(data);
    hasher.finalize().into()
}

fn frame(part: pb::frame::Part) -> Vec<u8> {
    let frame = pb::Frame { part: Some(part) };
    let length = u32::try_from(frame.encoded_len()).expect("it is below the largest frame");
    let mut bytes = length.to_be_bytes().to_vec();
    frame.encode(&mut bytes).expect("a vector has room");
    bytes
}

/// Writes a backup, part by part.
pub(super) struct Encoder {
    id: [u8; 16],
    digest: Digest,
    chunks: u64,
    entries: u64,
}

impl Encoder {
    /// Begins; the bytes stand first in the file.
    pub(super) fn begin(header: &Header) -> (Self, Vec<u8>) {
        let mut bytes = FIRST_LINE.to_vec();
        bytes.extend(frame(pb::frame::Part::Header(pb::Header {
            id: header.id.to_vec(),
            begun_at_ms: header.begun_at.unix_ms(),
            program: header.program.clone(),
            store_format: header.store_format,
            begun_at_revision: header.begun_at_revision.0,
        })));
        let encoder = Self {
            id: header.id,
            digest: Sha256::digest(&bytes).into(),
            chunks: 0,
            entries: 0,
        };
        (encoder, bytes)
    }

    /// The next chunk.
    ///
    /// # Errors
    /// Zstandard's, or that the entries are too large for one chunk.
    pub(super) fn chunk(&mut self, entries: Vec<pb::Entry>) -> io::Result<Vec<u8>> {
        self.entries += entries.len() as u64;
        let plain = pb::Entries { entries }.encode_to_vec();
        if plain.len() > LARGEST_CHUNK {
            return Err(io::Error::other("a record is too large for a backup"));
        }
        let data = zstd::bulk::compress(&plain, LEVEL)?;
        self.chunks += 1;
        self.digest = next_digest(&self.digest, self.chunks, &data);
        Ok(frame(pb::frame::Part::Chunk(pb::Chunk {
            number: self.chunks,
            digest: self.digest.to_vec(),
            data,
        })))
    }

    /// How many entries there are so far.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// The end, signed with the key that has this public half.
    pub(super) fn finish(
        self,
        revision: Revision,
        done_at: Timestamp,
        audit_checkpoint: String,
        public_key: [u8; 32],
        sign: impl FnOnce(&[u8]) -> String,
    ) -> Vec<u8> {
        let statement = pb::Statement {
            id: self.id.to_vec(),
            revision: revision.0,
            chunks: self.chunks,
            entries: self.entries,
            digest: self.digest.to_vec(),
            done_at_ms: done_at.unix_ms(),
            public_key: public_key.to_vec(),
            audit_checkpoint,
        };
        let statement = statement.encode_to_vec();
        let signature = sign(&statement);
        frame(pb::frame::Part::Trailer(pb::Trailer { statement, signature }))
    }
}

/// Reads a backup in pieces of any size. Nothing that it gives is to be trusted before the end is there and its signature holds.
pub(super) struct Decoder {
    /// What has come and is no whole frame yet.
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    at: u64,
    state: State,
}

enum State {
    FirstLine,
    Header,
    Chunks(Box<Chunks>),
    Done,
}

struct Chunks {
    id: Vec<u8>,
    revision: u64,
    digest: Digest,
    count: u64,
    entries: u64,
    /// The greatest revision that an entry has.
    newest: u64,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            state: State::FirstLine,
        }
    }

    /// Takes more of the file, and gives what is whole by then.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Part>, Flaw> {
        self.buffer.extend_from_slice(bytes);
        let mut parts = Vec::new();
        let mut taken = 0;
        while let Some((length, part)) = self.next(taken)? {
            taken += length;
            parts.extend(part);
        }
        self.buffer.drain(..taken);
        self.at += taken as u64;
        Ok(parts)
    }

    /// That there is no more.
    pub(super) fn finish(&self) -> Result<(), Flaw> {
        match &self.state {
            State::Done => Ok(()),
            State::FirstLine if !FIRST_LINE.starts_with(&self.buffer) || self.buffer.is_empty() => {
                Err(self.no_backup())
            }
            State::FirstLine | State::Header => Err(self.cut_short(0)),
            State::Chunks(chunks) => Err(self.cut_short(chunks.count)),
        }
    }

    fn cut_short(&self, chunks: u64) -> Flaw {
        let at = self.at + self.buffer.len() as u64;
        Flaw::CutShort { at, chunks }
    }

    /// What begins at `from` in the buffer: how long it is, and the part that it holds; none if it is not all there.
    fn next(&mut self, from: usize) -> Result<Option<(usize, Option<Part>)>, Flaw> {
        if matches!(self.state, State::FirstLine) {
            return Ok(self.first_line()?.map(|length| (length, None)));
        }
        let at = self.at + from as u64;
        let rest = &self.buffer[from..];
        if matches!(self.state, State::Done) {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Flaw::Continued { at })
            };
        }
        let damaged = |what| Flaw::Damaged { at, what };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LARGEST_FRAME {
            return Err(damaged("a part has an impossible length"));
        }
        let Some(bytes) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = pb::Frame::decode(bytes).map_err(|_| damaged("a part cannot be read"))?;
        // Protobuf passes over fields that it doesn't know, and no digest covers what stands around a chunk's data.
        if frame.encode_to_vec() != bytes {
            return Err(damaged("a part is not written as this format writes it"));
        }
        let part = frame.part.ok_or(damaged("a part is empty"))?;
        let whole = from..from + 4 + length;
        let part = match (&mut self.state, part) {
            (State::Header, pb::frame::Part::Header(header)) => {
                let digest = Sha256::new_with_prefix(FIRST_LINE).chain_update(&self.buffer[whole.clone()]);
                let revision = header.begun_at_revision;
                let id = header.id.clone();
                let header = read_header(header).ok_or(damaged("its header cannot be read"))?;
                if header.store_format > crate::store::FORMAT {
                    let found = header.store_format;
                    return Err(Flaw::NewerStore { found });
                }
                self.state = State::Chunks(Box::new(Chunks {
                    id,
                    revision,
                    digest: digest.finalize().into(),
                    count: 0,
                    entries: 0,
                    newest: 0,
                }));
                Part::Begun(header)
            }
            (State::Chunks(chunks), pb::frame::Part::Chunk(chunk)) => Part::Entries(chunks.take(&chunk, at)?),
            (State::Chunks(chunks), pb::frame::Part::Trailer(trailer)) => {
                let end = chunks.end(trailer, at)?;
                self.state = State::Done;
                Part::Done(Box::new(end))
            }
            _ => return Err(damaged("a part stands where another kind belongs")),
        };
        Ok(Some((whole.len(), Some(part))))
    }

    fn first_line(&mut self) -> Result<Option<usize>, Flaw> {
        if self.buffer.starts_with(FIRST_LINE) {
            self.state = State::Header;
            return Ok(Some(FIRST_LINE.len()));
        }
        let is_waiting = |text: &[u8]| text.starts_with(&self.buffer) && self.buffer.len() < text.len();
        let may_be_longer =
            self.buffer.starts_with(NAME) && !self.buffer.contains(&b'\n') && self.buffer.len() < LONGEST_FIRST_LINE;
        if is_waiting(FIRST_LINE) || is_waiting(AGE) || may_be_longer {
            return Ok(None);
        }
        Err(self.no_backup())
    }

    /// What a file is that does not begin like a backup of this format.
    fn no_backup(&self) -> Flaw {
        if self.buffer.starts_with(AGE) {
            return Flaw::ForRecipient;
        }
        let format = self
            .buffer
            .strip_prefix(NAME)
            .and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        match format.map(|format| format.iter().take(16).copied().collect::<Vec<_>>()) {
            Some(format) => Flaw::OtherFormat {
                found: String::from_utf8_lossy(&format).into_owned(),
            },
            None => Flaw::NotABackup,
        }
    }
}

fn read_header(header: pb::Header) -> Option<Header> {
    Some(Header {
        id: header.id.try_into().ok()?,
        begun_at: Timestamp::from_unix_ms(header.begun_at_ms),
        program: header.program,
        store_format: header.store_format,
        begun_at_revision: Revision(header.begun_at_revision),
    })
}

impl Chunks {
    fn take(&mut self, chunk: &pb::Chunk, at: u64) -> Result<Vec<pb::Entry>, Flaw> {
        let damaged = |what| Flaw::Damaged { at, what };
        let expected = self.count + 1;
        if chunk.number != expected {
            let found = chunk.number;
            return Err(Flaw::Misplaced { at, found, expected });
        }
        let digest = next_digest(&self.digest, expected, &chunk.data);
        if chunk.digest != digest {
            return Err(damaged("a part does not fit its checksum, or is of another backup"));
        }
        let plain = zstd::bulk::decompress(&chunk.data, capacity(&chunk.data))
            .map_err(|_| damaged("a part cannot be unpacked"))?;
        let entries = pb::Entries::decode(&plain[..]).map_err(|_| damaged("a part has no entries"))?;
        self.count = expected;
        self.digest = digest;
        self.entries += entries.entries.len() as u64;
        let newest = entries.entries.iter().map(|entry| entry.revision).max();
        self.newest = self.newest.max(newest.unwrap_or(0));
        Ok(entries.entries)
    }

    fn end(&self, trailer: pb::Trailer, at: u64) -> Result<End, Flaw> {
        let damaged = |what| Flaw::Damaged { at, what };
        let said = pb::Statement::decode(&trailer.statement[..]).map_err(|_| damaged("its end cannot be read"))?;
        if said.digest != self.digest || said.id != self.id {
            return Err(damaged("its end is of another backup"));
        }
        if (said.chunks, said.entries) != (self.count, self.entries) {
            return Err(damaged("its end counts other parts than there are"));
        }
        if said.revision < self.newest || said.revision < self.revision {
            return Err(damaged("it holds what is newer than it is"));
        }
        Ok(End {
            revision: Revision(said.revision),
            entries: said.entries,
            done_at: Timestamp::from_unix_ms(said.done_at_ms),
            public_key: said
                .public_key
                .try_into()
                .map_err(|_| damaged("its end names no key"))?,
            audit_checkpoint: said.audit_checkpoint,
            statement: trailer.statement,
            signature: trailer.signature,
        })
    }
}

/// How much a chunk may unpack to: as much as it says, within the limit.
fn capacity(data: &[u8]) -> usize {
    let said = zstd::zstd_safe::get_frame_content_size(data).ok().flatten();
    said.and_then(|size| usize::try_from(size).ok())
        .map_or(0, |size| size.min(LARGEST_CHUNK))
}
