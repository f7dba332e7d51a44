//! Filters: which events a read or a subscription selects.

use crate::names;

/// A filter of the log's events. An event must meet all conditions that are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only events of this stream.
    pub stream: Option<&'a str>,
    /// Only events of streams whose names begin with these bytes.
    pub prefix: Option<&'a str>,
    /// Only events of streams of this category.
    pub category: Option<&'a str>,
    /// Only events of these types.
    pub types: Option<&'a [&'a str]>,
    /// Leave out events of streams whose names begin with `$`.
    pub hides_system: bool,
}

impl Filter<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        !self.restricts_streams() && self.types.is_none()
    }

    pub(crate) fn restricts_streams(&self) -> bool {
        self.hides_system
            || self.stream.is_some()
            || self.prefix.is_some()
            || self.category.is_some()
    }

    /// Whether the conditions on the stream hold for this stream.
    pub(crate) fn wants_stream(&self, stream: &str) -> bool {
        !(self.hides_system && names::is_system(stream))
            && self.stream.is_none_or(|wanted| stream == wanted)
            && self
                .prefix
                .is_none_or(|prefix| stream.as_bytes().starts_with(prefix.as_bytes()))
            && self
                .category
                .is_none_or(|category| names::category(stream) == category)
    }

    /// Whether the condition on the type holds for this event type.
    pub(crate) fn wants_type(&self, event_type: &str) -> bool {
        self.types.is_none_or(|types| types.contains(&event_type))
    }
}

/// A [`Filter`] that owns its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedFilter {
    /// As [`Filter::stream`].
    pub stream: Option<String>,
    /// As [`Filter::prefix`].
    pub prefix: Option<String>,
    /// As [`Filter::category`].
    pub category: Option<String>,
    /// As [`Filter::types`].
    pub types: Option<Vec<String>>,
    /// As [`Filter::hides_system`].
    pub hides_system: bool,
}

impl OwnedFilter {
    /// Call `act` with a [`Filter`] that borrows from this one.
    pub fn lend<T>(&self, act: impl FnOnce(Filter<'_>) -> T) -> T {
        let types: Option<Vec<&str>> = self
            .types
            .as_ref()
            .map(|types| types.iter().map(String::as_str).collect());
        act(Filter {
            types: types.as_deref(),
            ..self.of_streams()
        })
    }

    /// Whether the filter restricts streams or types, so that it leaves out most events. A filter
    /// that only hides system streams is not selective.
    pub(crate) fn is_selective(&self) -> bool {
        self.stream.is_some()
            || self.prefix.is_some()
            || self.category.is_some()
            || self.types.is_some()
    }

    /// Whether the filter selects events of this stream and type.
    pub(crate) fn matches(&self, stream: &str, event_type: &str) -> bool {
        self.of_streams().wants_stream(stream)
            && self
                .types
                .as_ref()
                .is_none_or(|types| types.iter().any(|wanted| wanted == event_type))
    }

    fn of_streams(&self) -> Filter<'_> {
        Filter {
            stream: self.stream.as_deref(),
            prefix: self.prefix.as_deref(),
            category: self.category.as_deref(),
            types: None,
            hides_system: self.hides_system,
        }
    }
}
