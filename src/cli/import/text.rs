//! The lines of a text, each whole in memory, and as many ahead as are needed to tell where a row of a table ends.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

use zeroize::Zeroizing;

use super::file::Place;

/// The longest line, in bytes.
pub(super) const LONGEST_LINE: usize = 1024 * 1024;
/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// A line as it stands there, with what ends it.
pub(super) struct TextLine {
    /// Of one that is too long only the beginning.
    bytes: Zeroizing<Vec<u8>>,
    /// How long it is, in bytes.
    length: u64,
}

impl TextLine {
    /// The line without its end; none if it is too long.
    pub(super) fn text(&self) -> Option<&[u8]> {
        let is_whole = self.bytes.len() as u64 == self.length;
        is_whole.then(|| {
            let text = &self.bytes[..];
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            text.strip_suffix(b"\r").unwrap_or(text)
        })
    }

    /// How long it is with what ends it, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text().is_some_and(|text| text.trim_ascii().is_empty())
    }
}

/// Lines, one after the other.
pub(super) struct Text {
    input: BufReader<Box<dyn Read + Send>>,
    ahead: VecDeque<TextLine>,
    place: Place,
}

impl Text {
    /// The lines of an input that stands at that place.
    pub(super) fn new(input: Box<dyn Read + Send>, place: Place) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            ahead: VecDeque::new(),
            place,
        }
    }

    /// What has been taken ends here.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes the next line that is not empty, and says which number it has; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, TextLine)>> {
        while let Some(line) = self.take()? {
            if !line.is_empty() {
                return Ok(Some((self.place.lines, line)));
            }
        }
        Ok(None)
    }

    fn take(&mut self) -> io::Result<Option<TextLine>> {
        let line = match self.ahead.pop_front() {
            Some(line) => Some(line),
            None => self.read()?,
        };
        if let Some(line) = &line {
            self.place.offset += line.length;
            self.place.lines += 1;
        }
        Ok(line)
    }

    /// A line that is not taken yet, counted from the next one, which is 0.
    pub(super) fn peek(&mut self, index: usize) -> io::Result<Option<&TextLine>> {
        while self.ahead.len() <= index {
            match self.read()? {
                Some(line) => self.ahead.push_back(line),
                None => return Ok(None),
            }
        }
        Ok(self.ahead.get(index))
    }

    /// Takes so many lines that were looked at.
    pub(super) fn skip(&mut self, count: usize) {
        for line in self.ahead.drain(..count) {
            self.place.offset += line.length;
            self.place.lines += 1;
        }
    }

    fn read(&mut self) -> io::Result<Option<TextLine>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        let limit = LONGEST_LINE as u64;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut bytes)?;
        let mut length = read as u64;
        if length == limit && !bytes.ends_with(b"\n") {
            length += skip_line(&mut self.input)?;
        }
        let is_first = self.place == Place::START && self.ahead.is_empty();
        if is_first && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
            self.place.offset += BYTE_ORDER_MARK.len() as u64;
            length -= BYTE_ORDER_MARK.len() as u64;
        }
        Ok((read > 0).then_some(TextLine { bytes, length }))
    }
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Skips what is left of a line, and says how much that was.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        skipped += length as u64;
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}
