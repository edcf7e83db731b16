//! Texts as JSON. For what every call writes, and for secrets: nothing is allocated on the way, so no copy stays behind.

/// Appends a text as a JSON string (RFC 8259, 7), with the escapes that `serde_json` writes.
pub(crate) fn push_text(out: &mut String, value: &str) {
    out.push('"');
    if value.bytes().fold(false, |any, byte| any | needs_escape(byte)) {
        push_escaped(out, value);
    } else {
        out.push_str(value);
    }
    out.push('"');
}

/// How many bytes [`push_text`] appends.
pub(crate) fn text_length(value: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + value.bytes().map(escaped).sum::<usize>()
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn push_escaped(out: &mut String, value: &str) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..' ' => {
                let code = character as usize;
                out.push_str("\\u00");
                out.extend([HEX[code >> 4], HEX[code & 15]]);
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let mut out = String::new();
        push_text(&mut out, text);
        assert_eq!(out, serde_json::to_string(text).unwrap());
        assert_eq!(out.len(), text_length(text), "{text:?}");
    }

    #[test]
    fn every_character_that_may_need_an_escape_is_written_as_by_serde_json() {
        for code in 0..=0x100 {
            check(&char::from_u32(code).unwrap().to_string());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_by_serde_json(text in "(\\PC|[\"\\\\\n\r\t\u{0}-\u{1f}\u{7f}]){0,60}") {
            check(&text);
        }
    }
}
