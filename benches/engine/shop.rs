//! The events that are appended: orders of about 200 bytes of JSON.

use eventbraid_engine::{Append, EventInput, Expectation, Prepared, prepare};

use crate::Outcome;

const STREAMS: usize = 10_000;
const STREAMS_A_COMMIT: usize = 10;
pub(crate) const EVENTS_A_COMMIT: usize = 1_000;

/// Ten thousand streams with their versions, and a body for each.
pub(crate) struct Shop {
    names: Vec<String>,
    versions: Vec<u64>,
    bodies: Vec<Vec<u8>>,
    state: u64,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let body = |n: usize| {
            format!(
                "{{\"order\":\"{n:016}\",\"customer\":\"customer-{:06}\",\"lines\":[{{\"sku\":\
                 \"SKU-{:08}\",\"quantity\":{},\"price\":\"{}.99\"}}],\"currency\":\"EUR\",\
                 \"placed_at\":\"2026-11-25T04:24:38.123456Z\",\"note\":\"leave at the door\"}}",
                n * 7 % 1_000_000,
                n * 31 % 100_000_000,
                n % 9 + 1,
                n % 90 + 10,
            )
        };
        Self {
            names: (0..STREAMS).map(|n| format!("order-{n:06}")).collect(),
            versions: vec![0; STREAMS],
            bodies: (0..STREAMS).map(|n| body(n).into_bytes()).collect(),
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Draws a stream at random (xorshift).
    fn draw(&mut self) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % STREAMS as u64).unwrap_or_default()
    }

    fn event(&self, stream: usize, n: usize) -> EventInput<'_> {
        EventInput {
            stream: self.names.get(stream).map_or("", String::as_str),
            event_type: "OrderPlaced",
            event_id: None,
            metadata: b"",
            library_metadata: b"",
            data: self
                .bodies
                .get(n % STREAMS)
                .map_or(&[][..], |body| body.as_slice()),
            content: None,
        }
    }

    fn expectation(&self, stream: usize) -> (&str, Expectation) {
        let name = self.names.get(stream).map_or("", String::as_str);
        let version = self.versions.get(stream).copied().unwrap_or_default();
        (name, Expectation::Exact(version))
    }

    fn grow(&mut self, stream: usize, by: u64) {
        if let Some(version) = self.versions.get_mut(stream) {
            *version += by;
        }
    }

    /// Prepares one event for one stream at random.
    pub(crate) fn single(&mut self) -> Outcome<Prepared> {
        let stream = self.draw();
        let prepared = prepare(&Append {
            events: &[self.event(stream, stream)],
            expectations: &[self.expectation(stream)],
            ..Append::default()
        })?;
        self.grow(stream, 1);
        Ok(prepared)
    }

    /// Prepares a thousand events, each the first of a stream of its own.
    pub(crate) fn openings(&mut self, first: u64) -> Outcome<Prepared> {
        let streams: Vec<String> = (first..first + EVENTS_A_COMMIT as u64)
            .map(|n| format!("order-{:08}", n.wrapping_mul(0x9e37_79b1) % 100_000_000))
            .collect();
        let events: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(n, stream)| EventInput {
                stream,
                ..self.event(n, n)
            })
            .collect();
        let events = Append {
            events: &events,
            ..Append::default()
        };
        Ok(prepare(&events)?)
    }

    /// Draws the ten streams of the next [`Shop::batch`].
    pub(crate) fn draw_batch(&mut self) -> Vec<usize> {
        let mut streams = Vec::with_capacity(STREAMS_A_COMMIT);
        while streams.len() < STREAMS_A_COMMIT {
            let stream = self.draw();
            if !streams.contains(&stream) {
                streams.push(stream);
            }
        }
        streams
    }

    /// Prepares a thousand events over these streams, each expected at its version.
    pub(crate) fn batch(&mut self, streams: &[usize]) -> Outcome<Prepared> {
        let events: Vec<_> = (0..EVENTS_A_COMMIT)
            .zip(streams.iter().cycle())
            .map(|(n, stream)| self.event(*stream, stream + n))
            .collect();
        let expectations: Vec<_> = streams.iter().map(|s| self.expectation(*s)).collect();
        let prepared = prepare(&Append {
            events: &events,
            expectations: &expectations,
            ..Append::default()
        })?;
        for stream in streams {
            self.grow(*stream, (EVENTS_A_COMMIT / STREAMS_A_COMMIT) as u64);
        }
        Ok(prepared)
    }
}
