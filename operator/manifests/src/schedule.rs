//! When a schedule comes: the shortest and the longest time between two runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};

/// Times between two runs of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// The shortest: a run must end within it.
    pub shortest: Duration,
    /// The longest: a run that is older by more is overdue.
    pub longest: Duration,
}

/// Days that are looked at: a schedule of days of the month and the week repeats within a year, or all but.
const DAYS: i64 = 400;
/// Runs of one day, at most.
const RUNS_A_DAY: usize = 24 * 60;
/// Schedules whose answer is kept; each pass over a pipeline asks again.
const KEPT: usize = 1000;

/// Where looking begins. Any time would do; a fixed one keeps the answer the same for ever. A Thursday.
const FROM: &str = "2026-01-01T00:00:00Z";

static ANSWERS: Mutex<BTreeMap<String, Option<Periods>>> = Mutex::new(BTreeMap::new());

/// The times between runs of a schedule in UTC; nothing if it never comes or is none.
pub(crate) fn periods(schedule: &str) -> Option<Periods> {
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = answers.get(schedule) {
        return *answer;
    }
    if answers.len() >= KEPT {
        answers.clear();
    }
    let answer = look(schedule);
    answers.insert(schedule.to_owned(), answer);
    answer
}

fn look(schedule: &str) -> Option<Periods> {
    let cron: Cron = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(schedule)
        .ok()?;
    let from = FROM.parse::<DateTime<Utc>>().ok()?;
    // Within a day: every day with a run has the same times.
    let first = cron.find_next_occurrence(&from, true).ok()?;
    let of_day: Vec<_> = cron
        .iter_from(first, Direction::Forward)
        .take(RUNS_A_DAY + 1)
        .take_while(|run| *run - first <= TimeDelta::days(1))
        .collect();
    let within = of_day.windows(2).map(|pair| pair[1] - pair[0]);
    // Between days: the runs before and after each midnight.
    let across = (1..=DAYS).filter_map(|day| {
        let midnight = from + TimeDelta::days(day);
        let after = cron.find_next_occurrence(&midnight, true).ok()?;
        let before = cron.find_previous_occurrence(&midnight, false).ok()?;
        Some(after - before)
    });
    let gaps: Vec<Duration> = within.chain(across).filter_map(|gap| gap.to_std().ok()).collect();
    Some(Periods {
        shortest: *gaps.iter().min()?,
        longest: *gaps.iter().max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &str, expected: Option<(u64, u64)>) {
        let found = periods(schedule).map(|p| (p.shortest.as_secs() / 60, p.longest.as_secs() / 60));
        assert_eq!(found, expected, "{schedule}");
    }

    #[test]
    fn times_between_runs() {
        check("*/5 * * * *", Some((5, 5)));
        check("0 3 * * *", Some((1440, 1440)));
        check("0,10 * * * *", Some((10, 50)));
        check("*/5 9-17 * * 1-5", Some((5, 63 * 60 + 5)));
        check("*/5 * * * 1-5", Some((5, 48 * 60 + 5)));
        check("* 8-18 * * *", Some((1, 13 * 60 + 1)));
        check("0 0 1 * *", Some((28 * 1440, 31 * 1440)));
    }

    #[test]
    fn a_schedule_that_never_comes_is_none() {
        check("0 0 31 2 *", None);
        check("61 * * * *", None);
    }
}
