//! Who holds a store, as another process wrote it down: bytes for people, never trusted.

/// As many bytes as a process writes of itself.
const SHOWN: usize = 256;

/// What is shown of them: their first 256, on one line, without what a terminal would obey.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let told = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
    let printable = |c: char| match c {
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // What turns the direction of a text would show another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    told.trim().chars().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_wrote_is_shown_as_it_is() {
        let padded = format!("{:256}", "process 7 running /usr/bin/pythön");
        assert_eq!(
            shown(padded.as_bytes()),
            "process 7 running /usr/bin/pythön"
        );
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn junk_is_shown_short_on_one_line_and_moves_no_cursor() {
        for junk in [
            [0xff; 4096].as_slice(),
            &b"\x1b[2J\n".repeat(100),
            &[0; 300],
            "\u{202e}\u{85}".repeat(100).as_bytes(),
        ] {
            let told = shown(junk);
            assert!(told.chars().count() <= SHOWN, "{told:?}");
            assert!(!told.contains(char::is_control), "{told:?}");
            assert!(!told.contains('\u{202e}'), "{told:?}");
        }
    }
}
