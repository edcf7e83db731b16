//! What an import tells while it goes on and at its end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tresor::pb::v1::{ImportCredentialsResponse, ImportFailure};

use super::file::Place;
use super::line::Problems;
use super::resume::Progress;
use crate::cli::failure::{Exit, Failure};
use crate::cli::hint;
use crate::cli::output::{Output, plain};

/// How many lines that cannot be saved, and how many warnings, are told one by one.
const TOLD: u64 = 20;
/// How often it is noted how far the import is.
const NOTE: Duration = Duration::from_millis(200);
/// How long an answer was held back if it is worth a word.
const HELD_BACK: Duration = Duration::from_millis(100);

/// Said once, as soon as it is so.
const QUOTA: &str = "the server takes no more lines a second than the quota of this certificate allows; for a faster import \
                     raise calls_per_second and total_calls_per_second in its grants in the server's policy";

/// What has become of the lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) saved: u64,
    pub(super) unchanged: u64,
    pub(super) failed: u64,
    pub(super) warnings: u64,
}

/// What is told.
pub(super) struct Report {
    counts: Counts,
    place: Place,
    revision: u64,
    told_warnings: u64,
    told_failures: u64,
    told_of_quota: bool,
    errors: Option<Errors>,
    progress: Option<Progress>,
    noted: Instant,
    bar: ProgressBar,
}

struct Errors {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    counts: Counts,
    revision: u64,
    last_line: u64,
}

impl Report {
    /// Of an import of the file `input`.
    pub(super) fn new(
        input: &Path,
        errors: Option<&Path>,
        progress: Option<Progress>,
        length: Option<u64>,
    ) -> Result<Self, Failure> {
        let (counts, place) = progress.as_ref().map_or((Counts::default(), Place::START), |progress| {
            (progress.counts(), progress.place())
        });
        // An import that goes on adds to what it said before.
        let is_going_on = place != Place::START;
        Ok(Self {
            counts,
            place,
            revision: 0,
            told_warnings: 0,
            told_failures: 0,
            told_of_quota: false,
            errors: errors.map(|path| Errors::open(path, is_going_on, input)).transpose()?,
            progress,
            noted: Instant::now(),
            bar: bar(length, place.offset),
        })
    }

    /// Tells of a part of the file that is done with.
    pub(super) fn acknowledged(
        &mut self,
        answer: &ImportCredentialsResponse,
        problems: Vec<(u64, Problems)>,
        end: Place,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let before = self.counts;
        self.counts.saved += u64::from(answer.saved);
        self.counts.unchanged += u64::from(answer.unchanged);
        self.counts.failed += (answer.failures.len() + problems.len()) as u64;
        self.counts.warnings += answer.warnings.len() as u64;
        self.revision = self.revision.max(answer.revision);
        self.place = end;
        let mut failed: Vec<(u64, Vec<String>)> = answer.failures.iter().map(told).collect();
        failed.extend(
            problems
                .into_iter()
                .map(|(number, problems)| (number, worded(&problems))),
        );
        failed.sort();
        for (number, texts) in failed {
            for text in texts {
                self.tell(&format!("line {number}: {text}"), output)?;
            }
        }
        for warning in &answer.warnings {
            let Some(told) = &warning.warning else { continue };
            if self.told_warnings < TOLD {
                let text = format!("line {}: {} ({})", warning.number, told.message, told.reason);
                self.bar.suspend(|| output.warn(&text));
            }
            self.told_warnings += 1;
        }
        let held_back = answer
            .held_back
            .and_then(|held_back| Duration::try_from(held_back).ok());
        if held_back >= Some(HELD_BACK) && !std::mem::replace(&mut self.told_of_quota, true) {
            self.bar.suspend(|| output.warn(QUOTA));
        }
        self.bar.set_position(end.offset);
        if self.counts != before {
            let Counts {
                saved,
                unchanged,
                failed,
                ..
            } = self.counts;
            self.bar
                .set_message(format!("{saved} saved, {unchanged} unchanged, {failed} failed"));
        }
        if self.noted.elapsed() >= NOTE {
            self.note()?;
        }
        Ok(())
    }

    /// Tells that the server takes nothing just now, and is asked again.
    pub(super) fn waits(&mut self, failure: &Failure, output: &mut Output) {
        let text = format!("{failure}; the import waits, and goes on when the server takes more");
        self.bar.suspend(|| output.warn(&text));
    }

    /// Tells of a line that cannot be saved.
    fn tell(&mut self, text: &str, output: &mut Output) -> Result<(), Failure> {
        if let Some(errors) = &mut self.errors {
            errors.write(text)?;
        }
        if self.told_failures < TOLD {
            self.bar.suspend(|| output.tell(text));
        }
        self.told_failures += 1;
        Ok(())
    }

    fn note(&mut self) -> Result<(), Failure> {
        self.noted = Instant::now();
        if let Some(errors) = &mut self.errors {
            errors.flush()?;
        }
        match &mut self.progress {
            Some(progress) => progress.note(self.place, self.counts),
            None => Ok(()),
        }
    }

    /// Tells how far it came before it failed.
    pub(super) fn interrupted(&mut self, output: &mut Output) {
        self.bar.finish_and_clear();
        self.tell_of_more(output);
        let noted = self.note();
        if let Err(failure) = noted {
            output.warn(&failure.to_string());
        }
        let Counts {
            saved,
            unchanged,
            failed,
            ..
        } = self.counts;
        let again = if self.progress.is_some() {
            "run it again with --resume to go on from there"
        } else {
            "run it again: what is stored already stays as it is"
        };
        output.warn(&format!(
            "the import was interrupted after line {}: {saved} saved, {unchanged} unchanged, {failed} failed; {again}",
            self.place.lines
        ));
    }

    /// Tells what came of it.
    pub(super) fn finish(mut self, is_dry_run: bool, output: &mut Output) -> Result<Exit, Failure> {
        self.bar.finish_and_clear();
        self.tell_of_more(output);
        if let Some(errors) = &mut self.errors {
            errors.flush()?;
        }
        if let Some(progress) = self.progress.take() {
            progress.remove();
        }
        let answer = Answer {
            counts: self.counts,
            revision: self.revision,
            last_line: self.place.lines,
        };
        output.show(&answer, |answer| {
            let Counts {
                saved,
                unchanged,
                failed,
                ..
            } = answer.counts;
            if is_dry_run {
                format!("{saved} can be saved, {failed} cannot; nothing was changed")
            } else {
                format!("{saved} saved, {unchanged} unchanged, {failed} failed")
            }
        })?;
        Ok(if self.counts.failed == 0 {
            Exit::Done
        } else {
            Exit::Invalid
        })
    }

    fn tell_of_more(&mut self, output: &mut Output) {
        let more = self.told_failures.saturating_sub(TOLD);
        if more > 0 {
            let place = self.errors.as_ref().map_or_else(
                || "--errors FILE writes all of them".to_owned(),
                |errors| format!("all of them are in {}", errors.path.display()),
            );
            output.tell(&format!("and {more} more; {place}"));
        }
        let more = self.told_warnings.saturating_sub(TOLD);
        if more > 0 {
            output.warn(&format!("and {more} more warnings"));
        }
    }
}

/// What the server says of a line: its fields, or else why it does not take it.
fn told(failure: &ImportFailure) -> (u64, Vec<String>) {
    let error = failure.error.clone().unwrap_or_default();
    let of_fields = failure.problems.iter();
    let mut texts: Vec<_> = of_fields
        .map(|problem| format!("{}: {}", problem.field, problem.description))
        .collect();
    if texts.is_empty() {
        let hint = hint::for_reason(&error.reason, &error.metadata);
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        texts.push(format!("{} ({}){hint}", error.message, error.reason));
    }
    (failure.number, texts)
}

fn worded(problems: &Problems) -> Vec<String> {
    let worded = |(field, text): &(&str, String)| match *field {
        "" => text.clone(),
        field => format!("{field}: {text}"),
    };
    problems.iter().map(worded).collect()
}

fn bar(length: Option<u64>, from: u64) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length).with_position(from),
            "{wide_bar} {percent}% {msg}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

impl Errors {
    fn open(path: &Path, is_going_on: bool, input: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = file.map_err(cannot_write(path))?;
        let is = file.metadata().map_err(cannot_write(path))?;
        let is_input = |other: &Metadata| (is.dev(), is.ino()) == (other.dev(), other.ino());
        if std::fs::metadata(input).as_ref().is_ok_and(is_input) {
            let text = format!(
                "--errors {}: is the file that is imported; name another one",
                path.display()
            );
            return Err(Failure::Usage(text));
        }
        // What an import that was interrupted has said goes on; what else is in a file is nobody's to throw away.
        if !is_going_on && is.len() > 0 {
            let text = format!(
                "--errors {}: is there already, and is not overwritten; remove it, or name another one",
                path.display()
            );
            return Err(Failure::Usage(text));
        }
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.file, "{}", plain(text)).map_err(cannot_write(&self.path))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.file.flush().map_err(cannot_write(&self.path))
    }
}

fn cannot_write(path: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    |error| Failure::Usage(format!("--errors {}: cannot be written: {error}", path.display()))
}
