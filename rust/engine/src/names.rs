//! The names of streams, event types and idempotency keys: their limits and their hashes.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use crate::error::{Error, Result};

/// The maximum length of a stream id, an event type or an idempotency key in bytes.
pub(crate) const NAME_LIMIT: usize = 255;

/// Validate a stream id: 1-255 bytes of UTF-8 without control characters.
///
/// # Errors
/// [`Error::InvalidArgument`] if the id breaks one of these rules.
pub fn check_stream(name: &str) -> Result<()> {
    check("stream", name)?;
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(Error::argument(
            "stream",
            name,
            format!("contains the control character {c:?}"),
        )),
        None => Ok(()),
    }
}

/// Validate the length of a name: 1-255 bytes.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Error::argument(
            what,
            name,
            "is empty; expected 1 to 255 bytes",
        )),
        1..=NAME_LIMIT => Ok(()),
        n => Err(Error::argument(
            what,
            name,
            format!(
                "has {n} bytes, expected at most {NAME_LIMIT}; {}",
                shorter(what)
            ),
        )),
    }
}

/// How a caller avoids a name that is too long. The limit is in `docs/limits.md`.
fn shorter(what: &str) -> &'static str {
    match what {
        "event type" | "category" => "use a shorter name",
        _ => "use a shorter one, for example a UUID or a hash",
    }
}

/// The category of a stream: the part of its name before the first `-`, or the whole name.
pub(crate) fn category(stream: &str) -> &str {
    stream
        .split_once('-')
        .map_or(stream, |(category, _)| category)
}

/// Validate the name of a category: that of a stream without `-`.
///
/// # Errors
/// [`Error::InvalidArgument`] if no stream can have this category.
pub fn check_category(name: &str) -> Result<()> {
    check("category", name)?;
    match name.chars().find(|c| c.is_control() || *c == '-') {
        Some(c) => Err(Error::argument(
            "category",
            name,
            format!("contains {c:?}; expected the part of a stream's name before the first '-'"),
        )),
        None => Ok(()),
    }
}

/// Whether a stream belongs to the library: its name begins with `$`.
pub fn is_system(stream: &str) -> bool {
    stream.starts_with('$')
}

/// Computes 128-bit hashes of names with a secret key (`SipHash-2-4`). The index trusts the hashes
/// without a comparison of names, so a client must not be able to choose two names that collide;
/// without the secret it can't. Streams, categories and idempotency keys have a prefix each, so that
/// a stream and a category or a key of the same name have different hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHasher {
    stream: SipHasher24,
    category: SipHasher24,
    key: SipHasher24,
}

impl NameHasher {
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        let seeded = |domain: &[u8]| {
            let mut hasher = SipHasher24::new_with_key(secret);
            hasher.write(domain);
            hasher
        };
        Self {
            stream: seeded(b"s:"),
            category: seeded(b"c:"),
            key: seeded(b"k:"),
        }
    }

    pub(crate) fn stream(&self, name: &str) -> u128 {
        finish(self.stream, name)
    }

    /// Return the hash of a category.
    pub(crate) fn category(&self, name: &str) -> u128 {
        finish(self.category, name)
    }

    /// Return the hash of the category of a stream.
    pub(crate) fn category_of(&self, stream: &str) -> u128 {
        self.category(category(stream))
    }

    pub(crate) fn idempotency_key(&self, key: &str) -> u128 {
        finish(self.key, key)
    }
}

fn finish(mut hasher: SipHasher24, name: &str) -> u128 {
    hasher.write(name.as_bytes());
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_ends_at_the_first_dash() {
        assert_eq!(category("order-1-2"), "order");
        assert_eq!(category("order"), "order");
        assert_eq!(category("-x"), "");
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(check_stream("order-é").is_ok());
        assert!(check_stream("").is_err());
        assert!(check_stream("a\nb").is_err());
        assert!(check_stream(&"x".repeat(255)).is_ok());
        assert!(check_stream(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_stream_a_category_and_a_key_of_one_name_have_different_hashes() {
        let hasher = NameHasher::new(&[7; 16]);
        assert_ne!(hasher.stream("a"), hasher.idempotency_key("a"));
        assert_ne!(hasher.stream("a"), hasher.category("a"));
        assert_ne!(hasher.category("a"), hasher.idempotency_key("a"));
    }

    #[test]
    fn a_category_has_no_dash() {
        assert!(check_category("order").is_ok());
        for invalid in ["", "order-", "-", "a\nb"] {
            assert!(check_category(invalid).is_err(), "{invalid:?}");
        }
    }
}
