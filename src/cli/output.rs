//! The one way to standard output and standard error: tables for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::view::WarningView;

/// A narrower terminal is none at all, or one that does not tell.
const NARROWEST: u16 = 60;

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // No doc comments: clap would show them at length in the help of each subcommand.
    #[default]
    Table,
    Json,
}

/// Where answers, warnings and errors go.
pub(crate) struct Output {
    format: Format,
    answers: Box<dyn Write>,
    messages: Box<dyn Write>,
}

impl Output {
    /// The process's own.
    pub(crate) fn standard(format: Format) -> Self {
        Self {
            format,
            answers: Box::new(io::stdout()),
            messages: Box::new(io::stderr()),
        }
    }

    /// Shows an answer: `value` as JSON, or the text that `table` makes of it.
    ///
    /// The text is wiped afterwards, since it may hold secrets.
    pub(crate) fn show<T: Serialize>(&mut self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut text = match self.format {
            Format::Table => Zeroizing::new(table(value).into_bytes()),
            Format::Json => json(value)?,
        };
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        self.write(&text)
    }

    /// Writes bytes as they are, whatever the format.
    ///
    /// A reader that has seen enough (`| head`) is not an error: the rest is dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.answers.write_all(bytes).and_then(|()| self.answers.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(Failure::Output),
        }
    }

    /// Tells people what to look at.
    pub(crate) fn warnings(&mut self, warnings: &[WarningView]) {
        for warning in warnings {
            self.warn(&warning.to_string());
        }
    }

    /// Tells people one thing to look at.
    pub(crate) fn warn(&mut self, text: &str) {
        // There is nowhere left to report that standard error is closed.
        let _ = writeln!(self.messages, "warning: {}", plain(text));
    }

    /// Tells people one thing.
    pub(crate) fn tell(&mut self, text: &str) {
        let _ = writeln!(self.messages, "{}", plain(text));
    }

    /// Reports a failure.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let _ = self.messages.write_all(failure.report().as_bytes());
    }
}

fn json<T: Serialize>(value: &T) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Big enough for most answers, so that few copies of a secret are left behind by a growing buffer.
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer_pretty(&mut *text, value).map_err(|error| Failure::Output(error.into()))?;
    Ok(text)
}

/// A table with a line under its head and no other borders, as wide as the terminal allows.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_header(head);
    if table.width().is_some_and(|width| width >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| cell_text(cell)));
    }
    if table.is_empty() {
        return "none\n".to_owned();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    // What a row is about, such as a path, is there to be copied.
    if let Some(first) = table.column_mut(0) {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.trim_fmt() + "\n"
}

/// A name and a value a line. Values are never wrapped, so that they can be copied.
pub(crate) fn details(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        text.extend([name, &*" ".repeat(width - name.len() + 2), &*cell_text(value), "\n"]);
    }
    text
}

fn cell_text(value: &str) -> String {
    if value.is_empty() { "-".to_owned() } else { plain(value) }
}

/// The text with its control and direction characters escaped: what a server or a note says must not command the terminal,
/// nor look like another line.
pub(crate) fn plain(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| {
            if is_harmless(c) {
                c.to_string()
            } else {
                c.escape_default().to_string()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, for tests.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        /// As text.
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        /// An output that remembers its answers and its messages.
        pub(crate) fn captured(format: Format) -> (Self, Captured, Captured) {
            let (answers, messages) = (Captured::default(), Captured::default());
            let output = Self {
                format,
                answers: Box::new(answers.clone()),
                messages: Box::new(messages.clone()),
            };
            (output, answers, messages)
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        let mut output = Output::captured(Format::Json).0;
        output.answers = Box::new(Closed);
        assert!(output.show(&1, ToString::to_string).is_ok());
    }

    #[test]
    fn the_format_decides_what_is_shown() {
        for (format, expected) in [(Format::Table, "seven\n"), (Format::Json, "7\n")] {
            let (mut output, answers, _) = Output::captured(format);
            output.show(&7, |_| "seven".to_owned()).unwrap();
            assert_eq!(answers.text(), expected);
        }
    }

    #[test]
    fn a_table_has_a_head_and_marks_what_is_empty() {
        let text = table(["PATH", "NOTE"], [["demo/dat/general".to_owned(), String::new()]]);
        assert_eq!(
            text,
            "PATH              NOTE\n───────────────────────\ndemo/dat/general  -\n"
        );
        assert_eq!(table(["PATH"], []), "none\n");
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(plain("Müller •"), "Müller •");
    }
}
