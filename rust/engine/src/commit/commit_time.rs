//! The time of a commit, derived from a wall clock that may be set while the store is open.
//!
//! The difference between the wall clock and the time since boot changes only when the wall clock
//! is set. The sessions record the last accepted difference in the shared page. If the wall clock
//! is set far ahead, the new difference is not accepted, and commit times continue with the old
//! one. Commit times never decrease, so a wrong time in the far future would be the minimum of all
//! later commit times. The first commit of a session has no accepted difference to compare with if
//! no other session has the store open. It uses the time of the wall clock.

/// Minimum change of the difference, in microseconds, that is reported as a jump of the wall clock.
/// The corrections of time services are smaller.
const REPORTED_JUMP: i64 = 10_000_000;
/// Maximum forward jump of the wall clock that commit times follow, in microseconds. A jump by
/// hours may be correct: a virtual machine may have been suspended overnight.
const MAX_ACCEPTED_JUMP: i64 = 24 * 3_600 * 1_000_000;

/// The differences between the two clocks that one session has accepted and read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CommitClock {
    /// The wall clock minus the time since boot, as last accepted.
    accepted: Option<i64>,
    /// The wall clock minus the time since boot, as last read.
    observed: Option<i64>,
}

/// Both clocks at a commit, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) wall: u64,
    pub(super) since_boot: u64,
}

/// The recorded time of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitTime {
    pub(super) time: u64,
    /// The clock difference that later commits are compared with.
    pub(super) accepted: i64,
    /// Whether the wall clock was set since the previous commit of this session. For the first
    /// commit of a session: whether the wall clock was set since the last commit of another session
    /// or, if there is no other session, whether it is behind the last commit of the log.
    pub(super) has_jumped: bool,
}

impl CommitClock {
    /// Return the time of a commit that follows a commit with the time `last`. `shared` is the
    /// difference that the sessions of this boot accepted last.
    pub(super) fn stamp(&mut self, clocks: Clocks, last: u64, shared: Option<i64>) -> CommitTime {
        let (wall, since_boot) = (signed(clocks.wall), signed(clocks.since_boot));
        let difference = wall.saturating_sub(since_boot);
        let is_sound = |accepted: &i64| {
            // Any program can write to the page, so the difference that was read may be wrong. With
            // a correct difference, the time of the last commit lies between the boot and now.
            let passed = since_boot
                .saturating_add(*accepted)
                .saturating_sub(signed(last));
            (-REPORTED_JUMP..=since_boot.saturating_add(REPORTED_JUMP)).contains(&passed)
        };
        let accepted = shared.filter(is_sound).or(self.accepted);
        let before = self.observed.or(accepted);
        let has_jumped = before.map_or(
            wall.saturating_add(REPORTED_JUMP) < signed(last),
            |before| difference.saturating_sub(before).saturating_abs() > REPORTED_JUMP,
        );
        let (accepted, time) = match accepted {
            None if has_jumped => (difference, wall),
            None => (difference, wall.max(signed(last))),
            Some(accepted) => {
                let ahead = difference.saturating_sub(accepted);
                // Keep the accepted difference if the wall clock was set back. Otherwise all
                // commits would get the time of the last commit until the wall clock had caught up.
                // Keep it also if the wall clock was set too far ahead.
                let kept = if (-REPORTED_JUMP..=MAX_ACCEPTED_JUMP).contains(&ahead) {
                    difference
                } else {
                    accepted
                };
                (kept, since_boot.saturating_add(kept).max(signed(last)))
            }
        };
        (self.accepted, self.observed) = (Some(accepted), Some(difference));
        CommitTime {
            time: time.unsigned_abs(),
            accepted,
            has_jumped,
        }
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * SECOND;
    const YEAR: u64 = 365 * 24 * HOUR;
    const NOW: u64 = 50 * YEAR;
    const UPTIME: u64 = 10 * 24 * HOUR;

    /// A machine with two clocks. Time that passes advances both.
    struct Machine {
        wall: u64,
        since_boot: u64,
    }

    impl Machine {
        fn new() -> Self {
            let (wall, since_boot) = (NOW, UPTIME);
            Self { wall, since_boot }
        }

        fn after(&mut self, micros: u64) -> Clocks {
            self.wall += micros;
            self.since_boot += micros;
            self.read()
        }

        fn read(&self) -> Clocks {
            let (wall, since_boot) = (self.wall, self.since_boot);
            Clocks { wall, since_boot }
        }
    }

    #[test]
    fn a_commit_has_the_time_of_the_wall_clock() {
        let (mut machine, mut clock) = (Machine::new(), CommitClock::default());
        let mut last = 0;
        for pause in [0, 1, SECOND, 100 * HOUR] {
            let commit_time = clock.stamp(machine.after(pause), last, None);
            assert_eq!(
                (commit_time.time, commit_time.has_jumped),
                (machine.wall, false)
            );
            last = commit_time.time;
        }
    }

    #[test]
    fn a_jump_by_years_is_not_recorded_and_counted_once() {
        let (mut machine, mut clock) = (Machine::new(), CommitClock::default());
        let first = clock.stamp(machine.read(), 0, None);
        machine.wall += 10 * YEAR;
        let ahead = clock.stamp(machine.after(SECOND), first.time, None);
        assert_eq!((ahead.time, ahead.has_jumped), (NOW + SECOND, true));
        let later = clock.stamp(machine.after(SECOND), ahead.time, None);
        assert_eq!((later.time, later.has_jumped), (NOW + 2 * SECOND, false));
        machine.wall -= 10 * YEAR;
        let back = clock.stamp(machine.after(SECOND), later.time, None);
        assert_eq!((back.time, back.has_jumped), (NOW + 3 * SECOND, true));
    }

    #[test]
    fn a_joining_session_uses_the_clock_difference_of_the_other_sessions() {
        let mut machine = Machine::new();
        let shared = CommitClock::default().stamp(machine.read(), 0, None);
        machine.wall += 10 * YEAR;
        let mut joined = CommitClock::default();
        let commit_time = joined.stamp(machine.after(HOUR), shared.time, Some(shared.accepted));
        assert_eq!(
            (commit_time.time, commit_time.has_jumped),
            (NOW + HOUR, true)
        );
        assert_eq!(commit_time.accepted, shared.accepted);
    }

    #[test]
    fn a_jump_by_hours_is_recorded_and_reported() {
        let (mut machine, mut clock) = (Machine::new(), CommitClock::default());
        let first = clock.stamp(machine.read(), 0, None);
        machine.wall += 8 * HOUR;
        let commit_time = clock.stamp(machine.read(), first.time, None);
        assert_eq!(
            (commit_time.time, commit_time.has_jumped),
            (NOW + 8 * HOUR, true)
        );
    }

    #[test]
    fn commit_times_advance_after_the_clock_was_set_back() {
        let (mut machine, mut clock) = (Machine::new(), CommitClock::default());
        let first = clock.stamp(machine.read(), 0, None);
        machine.wall -= 8 * HOUR;
        let commit_time = clock.stamp(machine.after(HOUR), first.time, None);
        assert_eq!(
            (commit_time.time, commit_time.has_jumped),
            (NOW + HOUR, true)
        );
    }

    #[test]
    fn the_first_commit_of_a_session_uses_the_wall_clock() {
        let machine = Machine::new();
        for last in [NOW - YEAR, NOW - HOUR] {
            let commit_time = CommitClock::default().stamp(machine.read(), last, None);
            assert_eq!((commit_time.time, commit_time.has_jumped), (NOW, false));
        }
        let commit_time = CommitClock::default().stamp(machine.read(), NOW + 10 * YEAR, None);
        assert_eq!((commit_time.time, commit_time.has_jumped), (NOW, true));
        let commit_time = CommitClock::default().stamp(machine.read(), NOW + SECOND, None);
        assert_eq!(
            (commit_time.time, commit_time.has_jumped),
            (NOW + SECOND, false)
        );
    }

    #[test]
    fn an_impossible_clock_difference_in_the_page_is_ignored() {
        let machine = Machine::new();
        let expected = CommitClock::default().stamp(machine.read(), NOW - HOUR, None);
        for junk in [i64::MIN, -1, 1, i64::MAX, signed(NOW + YEAR)] {
            let commit_time = CommitClock::default().stamp(machine.read(), NOW - HOUR, Some(junk));
            assert_eq!(commit_time, expected, "{junk}");
        }
    }
}
