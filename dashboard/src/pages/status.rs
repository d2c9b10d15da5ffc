//! The strip at the top of every page.

use std::collections::BTreeMap;

use crate::api::types::{
    Cycle, DataSpan, ModelState, PipelineState, Progress, Recorded, Status, StoreState, StoreStatus,
};
use crate::error::ApiError;
use crate::pages::reasons::model_state;
use crate::store::read::{Ask, Reader};
use crate::store::rows::{CycleRow, DataSpanRow};
use crate::window::{now_us, parse_rfc3339, rfc3339_us};

/// A cycle is late when the newest one is older than three of the longest of these; the first can only be guessed.
const INTERVALS: usize = 5;
/// Age from which a lone cycle is old, seconds: three of the longest interval that is usual.
const OLD_WITHOUT_INTERVAL_S: u64 = 900;

/// How the pipeline is.
pub(crate) async fn page(reader: &Reader, recorded: Option<&Recorded>, has_truth: bool) -> Status {
    let cycles = Ask::new("cycles").with("limit", INTERVALS + 1);
    let found = tokio::try_join!(
        reader.rows::<CycleRow>(cycles),
        reader.rows::<DataSpanRow>(Ask::new("data_span")),
    );
    let mut status = Status {
        state: PipelineState::Waiting,
        model_states: BTreeMap::new(),
        progress: None,
        last_cycle: None,
        stale: false,
        cycle_interval_s: None,
        budget: 0,
        budget_used: 0,
        store: StoreStatus {
            state: StoreState::Ok,
            detail: None,
        },
        recorded: recorded.cloned(),
        data: None,
        has_truth,
        now: rfc3339_us(now_us()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match found {
        Ok((cycles, data)) => {
            apply_cycles(&mut status, &cycles.rows, now_us());
            status.data = data.first().filter(|row| row.n > 0).map(|row| DataSpan {
                first: row.first_minute,
                last: row.last_minute,
            });
        }
        Err(error) => status.store = away(&error),
    }
    status
}

fn away(error: &ApiError) -> StoreStatus {
    StoreStatus {
        state: StoreState::Unreachable,
        detail: Some(match &error.remedy {
            Some(remedy) => format!("{}: {remedy}", error.detail),
            None => error.detail.clone(),
        }),
    }
}

fn apply_cycles(status: &mut Status, cycles: &[CycleRow], now_us: i64) {
    let Some(newest) = cycles.first() else { return };
    let started: Vec<i64> = cycles
        .iter()
        .filter_map(|cycle| parse_rfc3339(&cycle.started_at))
        .collect();
    let longest_us = started.windows(2).map(|pair| pair[0] - pair[1]).max();
    let age_s = started
        .first()
        .and_then(|at| u64::try_from((now_us - at) / 1_000_000).ok())
        .unwrap_or(0);
    status.cycle_interval_s = longest_us.and_then(|us| u64::try_from(us / 1_000_000).ok());
    status.stale = match status.cycle_interval_s {
        // A cycle takes time too, and clocks differ by a little.
        Some(interval) => age_s > 3 * interval + 30,
        None => age_s > OLD_WITHOUT_INTERVAL_S,
    };
    status.model_states = newest
        .model_states
        .iter()
        .filter_map(|(model, state)| Some((model.clone(), model_state(state)?)))
        .collect();
    status.state = match model_state(&newest.state) {
        Some(ModelState::Armed) => PipelineState::Armed,
        Some(ModelState::Provisional) => PipelineState::Provisional,
        // A cycle that says nothing scored nobody.
        Some(ModelState::Learning) | None => PipelineState::Learning,
    };
    let counted = |name: &str| newest.progress.get(name).copied().flatten();
    status.progress = match (
        counted("entities_ready"),
        counted("entities_needed"),
        counted("minutes_seen"),
        counted("minutes_needed"),
    ) {
        (Some(entities_ready), Some(entities_needed), Some(minutes_seen), Some(minutes_needed))
            if status.state != PipelineState::Armed =>
        {
            Some(Progress {
                entities_ready,
                entities_needed,
                minutes_seen,
                minutes_needed,
            })
        }
        _ => None,
    };
    status.budget = newest.budget;
    status.budget_used = newest.budget_used;
    status.last_cycle = Some(Cycle {
        started_at: newest.started_at.clone(),
        age_s,
        window_end: newest.window_end.clone(),
        duration_ms: newest.duration_ms,
        entities: newest.entities,
        scored: newest.scored,
        flagged: newest.flagged,
        alerts: newest.alerts,
        suppressed: newest.suppressed,
        labels_seen_at: (newest.labels_seen > 0)
            .then(|| rfc3339_us(i64::try_from(newest.labels_seen).unwrap_or(i64::MAX))),
        error: (!newest.error.is_empty()).then(|| newest.error.clone()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(started_at: &str, state: &str) -> CycleRow {
        CycleRow {
            started_at: started_at.to_owned(),
            window_end: started_at.to_owned(),
            duration_ms: 1,
            entities: 1,
            scored: 1,
            flagged: 0,
            alerts: 0,
            error: String::new(),
            state: state.to_owned(),
            model_states: BTreeMap::from([("browser/1h".to_owned(), state.to_owned())]),
            progress: [
                "entities_ready",
                "entities_needed",
                "minutes_seen",
                "minutes_needed",
            ]
            .map(|name| (name.to_owned(), Some(1.0)))
            .into(),
            budget: 10,
            budget_used: 2,
            suppressed: 0,
            labels_seen: 0,
        }
    }

    fn status(cycles: &[CycleRow], now: &str) -> Status {
        let mut status = Status {
            state: PipelineState::Waiting,
            model_states: BTreeMap::new(),
            progress: None,
            last_cycle: None,
            stale: false,
            cycle_interval_s: None,
            budget: 0,
            budget_used: 0,
            store: StoreStatus {
                state: StoreState::Ok,
                detail: None,
            },
            recorded: None,
            data: None,
            has_truth: false,
            now: now.to_owned(),
            version: String::new(),
        };
        apply_cycles(&mut status, cycles, parse_rfc3339(now).unwrap());
        status
    }

    #[test]
    fn without_a_cycle_it_waits_and_is_not_stale() {
        let status = status(&[], "2026-05-01T00:00:00Z");
        assert!(status.state == PipelineState::Waiting && !status.stale && status.last_cycle.is_none());
    }

    #[test]
    fn a_late_cycle_is_stale() {
        let cycles = [
            cycle("2026-05-01T00:05:00Z", "armed"),
            cycle("2026-05-01T00:00:00Z", "armed"),
        ];
        let fresh = status(&cycles, "2026-05-01T00:10:00Z");
        assert!(!fresh.stale && fresh.cycle_interval_s == Some(300), "{fresh:?}");
        assert_eq!(fresh.state, PipelineState::Armed);
        assert!(fresh.progress.is_none());
        assert!(status(&cycles, "2026-05-01T00:21:00Z").stale);
    }

    #[test]
    fn progress_is_shown_until_armed() {
        let status = status(
            &[cycle("2026-05-01T00:00:00Z", "learning")],
            "2026-05-01T00:00:10Z",
        );
        assert_eq!(status.state, PipelineState::Learning);
        assert!(status.progress.is_some());
        assert_eq!(status.last_cycle.unwrap().age_s, 10);
    }
}
