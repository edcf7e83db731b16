//! Tables (RFC 4180): the first row names the columns, a row is a line. What a lenient reader would make something of is refused:
//! a quote that is not closed would take the rows after it into a password.

use std::io;

use csv::{ByteRecord, StringRecord};

use super::line::{COLUMNS, Line, Problems, too_long};
use super::text::{BYTE_ORDER_MARK, LONGEST_LINE, Text};

/// How far is looked for the end of a row, in lines and in bytes: further than any credential goes.
const FURTHEST: usize = 1024;
const LONGEST_ROW: u64 = LONGEST_LINE as u64;

/// A line that was read: its number, and what it says or what is wrong with it.
pub(super) type Parsed = (u64, Result<Line, Problems>);

/// What the first row says of all others.
pub(super) struct Table {
    names: StringRecord,
    delimiter: u8,
}

/// Why a table cannot be read at all.
pub(super) enum Unreadable {
    Io(io::Error),
    /// What is wrong with its first row.
    Head(String),
}

impl Table {
    /// Takes the first row.
    pub(super) fn begin(text: &mut Text) -> Result<Self, Unreadable> {
        let Some((_, first)) = text.next().map_err(Unreadable::Io)? else {
            let text = "is empty: its first row must name the columns";
            return Err(Unreadable::Head(text.to_owned()));
        };
        let first = first.text().unwrap_or_default();
        let separates = |candidate: &u8| first.contains(candidate);
        let delimiter = [b',', b';', b'\t'].into_iter().find(separates).unwrap_or(b',');
        let names = (Cells::default().pass_over(first, delimiter))
            .filter(|cells| cells.is_at_an_end())
            .and_then(|_| StringRecord::from_byte_record(cells(first, delimiter)).ok())
            .ok_or_else(|| {
                "its first row cannot be read: it must name the columns, and lines end with LF or CR LF".to_owned()
            });
        let names = names.and_then(|names| columns(&names)).map_err(Unreadable::Head)?;
        Ok(Self { names, delimiter })
    }

    /// Takes the next row; none at the end.
    pub(super) fn next(&self, text: &mut Text) -> io::Result<Option<Parsed>> {
        let Some((number, line)) = text.next()? else {
            return Ok(None);
        };
        let Some(row) = line.text() else {
            return Ok(Some((number, Err(too_long()))));
        };
        let problem = |text: String| Err(vec![("", text)]);
        // What takes rows apart would pass over it.
        if row.starts_with(BYTE_ORDER_MARK) {
            let text = "begins with a byte order mark, as if another file began there";
            return Ok(Some((number, problem(text.to_owned()))));
        }
        let parsed = match Cells::default().pass_over(row, self.delimiter) {
            Some(at) if at.is_at_an_end() => self.parse(row),
            Some(at) => match self.further_lines(at, line.length(), text)? {
                Some(further) => {
                    text.skip(further);
                    problem(format!(
                        "its row goes on to line {}; a table's cells hold no line breaks: is a quote not closed?",
                        number + further as u64
                    ))
                }
                None => problem("a quote is not closed".to_owned()),
            },
            None => problem(
                "its quotes are not those of a table: a cell is in quotes as a whole, and each quote within is written twice"
                    .to_owned(),
            ),
        };
        Ok(Some((number, parsed)))
    }

    /// How many lines a row goes on for whose last cell so far is not closed. None if no row as the others comes of it: then the
    /// quote is the mistake, and the lines after it are rows of their own.
    fn further_lines(&self, mut at: Cells, mut length: u64, text: &mut Text) -> io::Result<Option<usize>> {
        for index in 0..FURTHEST {
            let Some(line) = text.peek(index)? else { break };
            length += line.length();
            let next = line.text().and_then(|line| at.pass_over(line, self.delimiter));
            match next.filter(|_| length <= LONGEST_ROW) {
                Some(next) => at = next,
                None => break,
            }
            if at.is_at_an_end() {
                return Ok((at.before + 1 == self.names.len()).then_some(index + 1));
            }
        }
        Ok(None)
    }

    fn parse(&self, row: &[u8]) -> Result<Line, Problems> {
        let problem = |text: &str| Err(vec![("", text.to_owned())]);
        let Ok(row) = StringRecord::from_byte_record(cells(row, self.delimiter)) else {
            return problem("is not UTF-8");
        };
        let expected = self.names.len();
        if row.len() != expected {
            return problem(&format!("has {} columns; the first row names {expected}", row.len()));
        }
        row.deserialize::<Line>(Some(&self.names)).or_else(|_| {
            problem(&format!(
                "its columns are not as the first row names them: {expected} are expected"
            ))
        })
    }
}

/// The columns that the first row names.
fn columns(names: &StringRecord) -> Result<StringRecord, String> {
    let all = || format!("there are: {}", COLUMNS.join(", "));
    let mut seen = Vec::new();
    for name in names {
        // Not repeated: in a file without a head it may be a password.
        let number = seen.len() + 1;
        let Some(column) = COLUMNS.iter().position(|column| is_named(column, name.trim())) else {
            return Err(format!(
                "its first row must name the columns, and column {number} has no name that is known; {}",
                all()
            ));
        };
        if seen.contains(&column) {
            return Err(format!("column {} is there twice", COLUMNS[column]));
        }
        seen.push(column);
    }
    if !seen.contains(&0) {
        return Err(format!("there is no column path; {}", all()));
    }
    Ok(seen.iter().map(|column| COLUMNS[*column]).collect())
}

/// Whether a column is headed by its name, in `camelCase` or `snake_case`.
fn is_named(column: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    plain(column) == plain(name)
}

/// The cells of a row that is written as it should be.
fn cells(row: &[u8], delimiter: u8) -> ByteRecord {
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .buffer_capacity(row.len().max(1))
        .from_reader(row);
    let mut cells = ByteRecord::new();
    // What is in memory can be read.
    let _ = rows.read_byte_record(&mut cells);
    cells
}

/// Where in a row a text ends.
#[derive(Clone, Copy, Default)]
struct Cells {
    /// How many cells are before this one.
    before: usize,
    within: Within,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    /// At the beginning of a cell.
    #[default]
    Beginning,
    /// In one without quotes.
    Plain,
    /// In one with quotes.
    Quoted,
    /// After a quote in one with quotes: the cell ends here, or the next is a quote, too.
    Quote,
}

impl Cells {
    /// Where it ends after some more of the row. None: the cells are not written as RFC 4180 has them. Only a quote within a cell
    /// that does not begin with one is taken for what it is.
    fn pass_over(mut self, text: &[u8], delimiter: u8) -> Option<Self> {
        for byte in text {
            self.within = match (self.within, *byte) {
                (_, b'\r') => return None,
                (Within::Quoted, b'"') => Within::Quote,
                (Within::Quoted, _) | (Within::Beginning | Within::Quote, b'"') => Within::Quoted,
                (_, byte) if byte == delimiter => {
                    self.before += 1;
                    Within::Beginning
                }
                (Within::Quote, _) => return None,
                (Within::Beginning | Within::Plain, _) => Within::Plain,
            };
        }
        Some(self)
    }

    fn is_at_an_end(self) -> bool {
        self.within != Within::Quoted
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::file::Place;
    use super::*;

    /// Which line each row begins in, and what is said of it.
    fn rows(table: &str) -> Vec<(u64, String)> {
        let mut text = Text::new(Box::new(Cursor::new(table.to_owned())), Place::START);
        let table = Table::begin(&mut text).map_err(|_| ()).unwrap();
        let mut next = || table.next(&mut text).unwrap();
        let said = |line: Result<Line, Problems>| line.map_or_else(|problems| problems[0].1.clone(), |_| String::new());
        std::iter::from_fn(|| next().map(|(number, line)| (number, said(line)))).collect()
    }

    /// The numbers of the rows that are taken, and those that are not.
    fn told(table: &str) -> (Vec<u64>, Vec<u64>) {
        let numbers = |taken: bool| {
            let of = rows(table)
                .into_iter()
                .filter(move |(_, said)| said.is_empty() == taken);
            of.map(|(number, _)| number).collect::<Vec<_>>()
        };
        (numbers(true), numbers(false))
    }

    #[test]
    fn a_row_is_in_the_line_in_which_it_begins_whatever_ends_lines() {
        for end in ["\n", "\r\n"] {
            let taken = |text: &str| told(&text.replace('|', end)).0;
            assert_eq!(taken("path,note|a,b|c,d|"), [2, 3], "{end:?}");
            assert_eq!(taken("path,note|a,b|c,d"), [2, 3], "the last has no end");
            assert_eq!(taken("path,note||a,b|||c,d||e,f"), [3, 6, 8], "empty lines");
            assert_eq!(taken("|path,note|a,b|"), [3], "before the first row");
            assert_eq!(taken("path,note|a,\"b|b|b\"|c,d|e,f|"), [5, 6], "a cell of three lines");
            assert_eq!(taken("path,note|"), [0; 0]);
        }
    }

    #[test]
    fn quotes_that_are_not_closed_take_no_other_rows() {
        let all = |rows: &str| told(&format!("path,note,password\n{rows}"));
        assert_eq!(all("a,,\"x\nb,,y\nc,,z\n"), (vec![3, 4], vec![2]));
        assert_eq!(all("a,,\"x\nb,,\"y\"\nc,,z\n"), (vec![3, 4], vec![2]));
        assert_eq!(all("a,,\"x\nb,\",\",y\nc,,z\n"), (vec![3, 4], vec![2]));
        // Both are meant as quotes, or as parts of passwords: nobody can tell.
        assert_eq!(all("a,,\"x\nb,,y\"\nc,,z\n"), (vec![4], vec![2]));
        // Nor is the text of a cell ever taken for a row.
        assert_eq!(all("a,\"x\nb,,y\nz\",w\nc,,z\n"), (vec![5], vec![2]));
    }

    #[test]
    fn the_end_of_a_row_is_looked_for_no_further_than_any_credential_goes() {
        let all = |rows: &str| told(&format!("path,note,password\n{rows}"));
        for (line, count, is_found) in [
            ("y", FURTHEST - 1, true),
            ("y", FURTHEST, false),
            ("", FURTHEST, false),
            (&*"y".repeat(LONGEST_LINE / 2), 1, true),
            (&*"y".repeat(LONGEST_LINE / 2), 2, false),
        ] {
            let row = format!("a,,\"x\n{}z\"\n", format!("{line}\n").repeat(count));
            let (_, failed) = all(&row);
            assert_eq!(failed == [2], is_found, "{count} of {}", line.len());
            assert!(failed.starts_with(&[2]));
        }
    }

    #[test]
    fn cells_are_taken_as_a_table_has_them_or_not_at_all() {
        for (cell, is_taken) in [
            ("pw", true),
            ("p\"w", true),
            ("pw\"", true),
            ("\"pw\"", true),
            ("\"p\"\"w\"", true),
            ("\"\"\"pw\"", true),
            ("\"\"", true),
            ("\"p,w\"", true),
            ("\"pw\"x", false),
            ("\"pw\" ", false),
            ("\"p\"w\"", false),
            ("p\rw", false),
            ("\"p\rw\"", false),
            ("\"pw", false),
        ] {
            let (taken, _) = told(&format!("path,password,note\na,{cell},\n"));
            assert_eq!(taken == [2], is_taken, "{cell:?}");
        }
    }

    #[test]
    fn a_row_that_begins_like_a_file_is_refused() {
        assert_eq!(told("\u{feff}path,note\n\u{feff}a,b\nc,d\n"), (vec![3], vec![2]));
    }

    #[test]
    fn a_row_that_is_too_long_holds_up_no_other() {
        let long = "x".repeat(2 * LONGEST_LINE);
        assert_eq!(told(&format!("path,note\na,{long}\nb,c\n")), (vec![3], vec![2]));
        assert_eq!(told(&format!("path,note\na,\"b\n{long}\nb,c\n")), (vec![4], vec![2, 3]));
    }
}
