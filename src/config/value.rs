//! One value, as it was written in the file or in an environment variable, and what it can be read as.
//!
//! Every reading answers with the value or with what is wrong and what is allowed, in words that follow the key's path.

use std::fmt::Debug;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use crate::vault::ids::is_printable;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// From the file.
    Toml(&'a DeValue<'a>),
    /// From an environment variable: always text, and read as what the key needs.
    Variable(&'a str),
}

impl<'a> Value<'a> {
    /// Text.
    pub(crate) fn text(self) -> Result<&'a str, String> {
        match self {
            Self::Toml(DeValue::String(text)) => Ok(text),
            Self::Variable(text) => Ok(text),
            Self::Toml(other) => Err(format!("is {}; text in quotes is expected", describe(other))),
        }
    }

    /// 1 to `longest` characters, all of them printable.
    pub(crate) fn printable(self, longest: usize) -> Result<String, String> {
        let text = self.text()?;
        let length = text.chars().count();
        if !(1..=longest).contains(&length) {
            return Err(format!("has {length} characters; 1 to {longest} are allowed"));
        }
        match text.chars().find(|c| !is_printable(*c)) {
            Some(character) => Err(format!("holds the unprintable character {character:?}")),
            None => Ok(text.to_owned()),
        }
    }

    /// A path; a relative one is relative to `folder`.
    pub(crate) fn path(self, folder: &Path) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("is empty; a path is expected".to_owned()),
            text if text.contains('\0') => Err("holds a NUL character, which no path may hold".to_owned()),
            text => Ok(folder.join(text)),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(self) -> Result<bool, String> {
        match self {
            Self::Toml(DeValue::Boolean(answer)) => Ok(*answer),
            Self::Variable("true") => Ok(true),
            Self::Variable("false") => Ok(false),
            Self::Variable(text) => Err(format!("{text:?} is neither true nor false")),
            Self::Toml(other) => Err(format!(
                "is {}; true or false (without quotes) is expected",
                describe(other)
            )),
        }
    }

    /// A whole number in `range`.
    pub(crate) fn integer<T: TryFrom<u64>>(self, range: RangeInclusive<u64>) -> Result<T, String> {
        let number = match self {
            Self::Toml(DeValue::Integer(integer)) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            Self::Variable(text) => text.parse().ok(),
            Self::Toml(other) => {
                let expected = bounds(&range);
                return Err(format!(
                    "is {}; a whole number {expected} (without quotes) is expected",
                    describe(other)
                ));
            }
        };
        let allowed = number.filter(|number| range.contains(number)).map(T::try_from);
        match allowed {
            Some(Ok(number)) => Ok(number),
            _ => Err(format!("{} is not a whole number {}", self.written(), bounds(&range))),
        }
    }

    /// A whole number in `range`, which begins above 0.
    pub(crate) fn count<T: TryFrom<NonZeroU64>>(self, range: RangeInclusive<u64>) -> Result<T, String> {
        let number: u64 = self.integer(range.clone())?;
        let count = NonZeroU64::new(number).map(T::try_from);
        match count {
            Some(Ok(count)) => Ok(count),
            _ => Err(format!("{number} is not a whole number {}", bounds(&range))),
        }
    }

    /// A length of time in `range`, such as `5s`.
    pub(crate) fn duration(self, range: RangeInclusive<Duration>) -> Result<Duration, String> {
        let text = self.text()?;
        match humantime::parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Ok(duration),
            _ => {
                let (least, most) = (in_words(*range.start()), in_words(*range.end()));
                Err(format!(
                    "{text:?} is not a duration between {least} and {most}, such as \"{least}\""
                ))
            }
        }
    }

    /// A length of time in `range`; none if it is `word`.
    pub(crate) fn duration_or(self, word: &str, range: RangeInclusive<Duration>) -> Result<Option<Duration>, String> {
        if self.text()? == word {
            return Ok(None);
        }
        self.duration(range)
            .map(Some)
            .map_err(|wrong| format!("{wrong}, nor {word:?}"))
    }

    /// A number of bytes in `range`, which begins and ends with whole MiB; written such as `64MiB`.
    pub(crate) fn size(self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let text = self.text()?;
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let number = units.iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start() >> 20, range.end() >> 20);
            format!("{text:?} is not a size between {least}MiB and {most}MiB, such as \"64MiB\"")
        })
    }

    /// One of a few words.
    pub(crate) fn one_of<T: Clone>(self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        let words = || choices.iter().map(|(word, _)| *word);
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(meaning.clone()),
            None => Err(format!(
                "{text:?} is not one of {}{}",
                listed(words()),
                did_you_mean(text, words())
            )),
        }
    }

    /// What was written, as far as a message should repeat it.
    pub(super) fn written(self) -> String {
        match self {
            Self::Toml(DeValue::String(text)) => format!("{text:?}"),
            Self::Toml(DeValue::Integer(integer)) => integer.to_string(),
            Self::Toml(other) => describe(other).to_owned(),
            Self::Variable(text) => format!("{text:?}"),
        }
    }
}

pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn bounds(range: &RangeInclusive<u64>) -> String {
    format!("between {} and {}", range.start(), range.end())
}

/// A duration as people write it, in the largest unit that divides it.
fn in_words(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.iter().find(|(unit, _)| ms.is_multiple_of(*unit) && ms > 0) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// `"a", "b", "c"`.
pub(super) fn listed<T: Debug>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("{word:?}")).collect();
    words.join(", ")
}

/// `; did you mean "listen"?` if one of the words is close, else nothing.
pub(super) fn did_you_mean<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> String {
    let (text, length) = (text.replace('-', "_"), text.chars().count());
    // A quarter of the letters may be wrong: more, and the guess is noise.
    let most = |word: &str| 1 + word.len() / 4;
    let closest = words
        // They are at least as far apart as one is longer than the other.
        .filter(|word| length.abs_diff(word.chars().count()) <= most(word))
        .map(|word| (strsim::osa_distance(&text, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= most(word))
        .min();
    closest.map_or_else(String::new, |(_, word)| format!("; did you mean {word:?}?"))
}
