//! Identifiers. Each is parsed once, at the edge; inside, a malformed one can't exist. Clones share the text.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest identifier, in characters.
pub const MAX_ID_LENGTH: usize = 128;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It is empty.
    #[error("is required")]
    Empty,
    /// It is longer than [`MAX_ID_LENGTH`].
    #[error("has {0} characters; at most {MAX_ID_LENGTH} are allowed")]
    TooLong(usize),
    /// It holds a character that no id may hold.
    #[error("holds {0:?} at position {1}; allowed are A-Z a-z 0-9 . _ @ + -, the first a letter or digit")]
    Character(char, usize),
    /// It holds a character that cannot be printed.
    #[error("holds the unprintable character {0:?} at position {1}")]
    Unprintable(char, usize),
}

/// Checks the rule for ids: 1–128 of `A-Z a-z 0-9 . _ @ + -`, the first a letter or digit. Positions count from 1.
fn check_id(text: &str) -> Result<(), InvalidId> {
    if is_id(text.as_bytes()) {
        return Ok(());
    }
    check_length(text)?;
    for (index, character) in text.chars().enumerate() {
        let allowed = character.is_ascii_alphanumeric() || (index > 0 && "._@+-".contains(character));
        if !allowed {
            return Err(InvalidId::Character(character, index + 1));
        }
    }
    Ok(())
}

/// The same rule, for whoever need not know what is wrong: each call has some seven ids, nearly all of them good.
fn is_id(text: &[u8]) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(byte);
    text.len() <= MAX_ID_LENGTH && text.first().is_some_and(u8::is_ascii_alphanumeric) && text.iter().all(is_inner)
}

fn check_length(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    match text.chars().count() {
        0..=MAX_ID_LENGTH => Ok(()),
        length => Err(InvalidId::TooLong(length)),
    }
}

// Five kinds of text that must never be mixed up, and Rust has no other way to say "the same, but another type".
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Whether the text is one.
            #[must_use]
            pub fn is_one(text: &str) -> bool {
                $check(text).is_ok()
            }

            /// Parses the text.
            ///
            /// # Errors
            /// [`InvalidId`] says which rule it breaks, and where.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// A clone: so maps can be asked by reference, and clone what they lack.
        impl From<&Self> for $name {
            fn from(id: &Self) -> Self {
                id.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, out)
            }
        }
    };
}

id!(
    /// A tenant (Mandant): one firm.
    TenantId, check_id
);
id!(
    /// A provider (Drittanbieter). Well-formed, not necessarily in the catalogue.
    ProviderId, check_id
);
id!(
    /// An office, an appraiser or a user, as the scope that holds it says.
    SubjectId, check_id
);
id!(
    /// An order: 1–128 printable characters.
    OrderId, check_printable
);

fn check_printable(text: &str) -> Result<(), InvalidId> {
    check_length(text)?;
    match text.chars().enumerate().find(|(_, c)| !is_printable(*c)) {
        Some((index, character)) => Err(InvalidId::Unprintable(character, index + 1)),
        None => Ok(()),
    }
}

/// Whether a character shows itself. The invisible characters that reorder or hide text count as unprintable: in a
/// log they make one text look like another.
pub(crate) fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_that_try_to_break_out_are_refused() {
        for bad in [
            "",
            "/",
            "a/b",
            "..",
            ".hidden",
            "a\0b",
            "a b",
            "leipzig ",
            " leipzig",
            "-a",
            "@a",
            "büro",
            "lеipzig",
            "a\n",
            "a*",
            "a\u{202e}b",
            "％2f",
            "a:b",
            "a\\b",
        ] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
            assert!(SubjectId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TenantId::parse(&"a".repeat(129)).is_err());
    }

    #[test]
    fn ids_that_people_use_are_taken() {
        for good in [
            "demo",
            "a.richter",
            "m.lang@firma.de",
            "0815",
            "a+b",
            "Büro".trim_matches('ü').get(..1).unwrap(),
            "A_-9",
        ] {
            assert_eq!(SubjectId::parse(good).unwrap().as_str(), good);
        }
        assert!(TenantId::parse(&"a".repeat(128)).is_ok());
    }

    #[test]
    fn an_order_id_is_any_printable_text() {
        for good in ["2026-0815", "Nr. 7/2026 (Müller)", "訂單"] {
            assert!(OrderId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\nb", "a\u{202e}b", "\u{7f}", "zero\u{200b}width"] {
            assert!(OrderId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_the_character_and_its_place() {
        let error = TenantId::parse("de/mo").unwrap_err();
        assert_eq!(error, InvalidId::Character('/', 3));
    }

    proptest! {
        #[test]
        fn exactly_the_documented_alphabet_is_taken(text in "\\PC{1,140}") {
            let documented = text.len() <= 128
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b));
            prop_assert_eq!(TenantId::parse(&text).is_ok(), documented);
        }
    }
}
