//! The state machine of a model: learning, provisional, armed. Pure; time is what the traffic says.

use serde::{Deserialize, Serialize};

/// How far a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Too little was seen: clients are ranked by what needs no population.
    Learning,
    /// There is a model; it ranks, and raises no alert.
    Provisional,
    /// It flags.
    Armed,
}

impl State {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Provisional => "provisional",
            Self::Armed => "armed",
        }
    }
}

/// What must be seen before a model moves on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Clients with enough requests before a model is trained; default 200.
    pub entities: u64,
    /// Requests that make a client count, and that statistics need; default 5.
    pub requests: u64,
    /// Minutes with traffic before a model is trained; default 30.
    pub minutes: u64,
    /// Cycles in a row whose clients agree with the calibration before a model is armed; default 3.
    pub stable_cycles: u64,
    /// Clients that a cycle must score before it counts as agreeing; default 50.
    pub stable_clients: u64,
    /// Largest share of clients above the 95th percentile of the reference that still agrees; default 0.15.
    pub stable_share: f64,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            entities: 200,
            requests: 5,
            minutes: 30,
            stable_cycles: 3,
            stable_clients: 50,
            stable_share: 0.15,
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// Clients of the window with enough requests.
    pub entities: u64,
    /// Minutes with traffic.
    pub minutes: u64,
    /// There is a saved model.
    pub has_model: bool,
    /// It was armed before.
    pub was_armed: bool,
    /// Cycles in a row that agreed with the calibration, this one included.
    pub stable_cycles: u64,
}

/// The state after this cycle.
pub fn next(needs: &Needs, seen: &Seen) -> State {
    if !seen.has_model {
        return State::Learning;
    }
    // A model that is armed stays so over a quiet night; the gate guards its successors.
    if seen.was_armed || seen.stable_cycles >= needs.stable_cycles {
        State::Armed
    } else {
        State::Provisional
    }
}

/// True if there is enough to train the first model.
pub fn may_train(needs: &Needs, seen: &Seen) -> bool {
    seen.entities >= needs.entities && seen.minutes >= needs.minutes
}

/// Counts a cycle: `above` of `scored` clients were above the 95th percentile of the reference.
pub fn count_stable(needs: &Needs, before: u64, scored: u64, above: u64) -> u64 {
    if scored < needs.stable_clients {
        // Too few to tell; neither agrees nor disagrees.
        return before;
    }
    if above as f64 <= needs.stable_share * scored as f64 {
        before + 1
    } else {
        0
    }
}

/// The state of the whole, from those of the models (`segment/window`) that scored somebody: each window is as far as its least
/// advanced segment, and the whole as far as its most advanced window, because a client is scored in every window.
pub fn overall<'m>(states: impl IntoIterator<Item = (&'m str, State)>) -> State {
    let mut windows = std::collections::BTreeMap::<&str, State>::new();
    for (name, state) in states {
        let window = name.split_once('/').map_or("", |(_, window)| window);
        let least = windows.entry(window).or_insert(state);
        *least = (*least).min(state);
    }
    windows.into_values().max().unwrap_or(State::Learning)
}

#[cfg(test)]
mod tests {
    use super::State::{Armed, Provisional};
    use super::*;

    const NEEDS: Needs = Needs {
        entities: 200,
        requests: 5,
        minutes: 30,
        stable_cycles: 3,
        stable_clients: 50,
        stable_share: 0.15,
    };

    #[test]
    fn learning_ends_when_both_clients_and_minutes_are_enough() {
        let seen = |entities, minutes| Seen {
            entities,
            minutes,
            ..Seen::default()
        };
        assert!(!may_train(&NEEDS, &seen(199, 1000)));
        assert!(!may_train(&NEEDS, &seen(10_000, 29)));
        assert!(may_train(&NEEDS, &seen(200, 30)));
        assert_eq!(
            next(&NEEDS, &seen(10_000, 1000)),
            State::Learning,
            "without a model it still learns"
        );
    }

    #[test]
    fn a_model_is_provisional_until_its_calibration_held_for_some_cycles() {
        let mut stable = 0;
        let mut states = Vec::new();
        for above in [5, 40, 6, 4, 5] {
            stable = count_stable(&NEEDS, stable, 100, above);
            let seen = Seen {
                has_model: true,
                stable_cycles: stable,
                ..Seen::default()
            };
            states.push(next(&NEEDS, &seen));
        }
        assert_eq!(
            states,
            [Provisional, Provisional, Provisional, Provisional, Armed]
        );
    }

    #[test]
    fn a_cycle_with_few_clients_proves_nothing() {
        assert_eq!(count_stable(&NEEDS, 2, 10, 0), 2);
        assert_eq!(count_stable(&NEEDS, 2, 10, 10), 2);
    }

    #[test]
    fn an_armed_model_stays_armed_over_a_quiet_night() {
        let seen = Seen {
            has_model: true,
            was_armed: true,
            ..Seen::default()
        };
        assert_eq!(next(&NEEDS, &seen), Armed);
    }

    #[test]
    fn the_whole_is_as_far_as_its_most_advanced_window() {
        let day = [("browser/24h", Armed), ("api/24h", Provisional)];
        assert_eq!(overall(day), Provisional);
        assert_eq!(
            overall(day.into_iter().chain([("all/1h", State::Learning)])),
            Provisional
        );
        assert_eq!(overall([("all/1h", State::Learning)]), State::Learning);
        assert_eq!(overall([]), State::Learning);
    }
}
