//! Times of parameters and answers: RFC 3339 or relative in, RFC 3339 out, seconds to the store.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::types::Window;
use crate::error::ApiError;

/// Longest window, seconds: nothing is kept longer than 400 days.
const MAX_WINDOW_S: i64 = 400 * 86_400;
/// Most steps of a histogram: a screen has a few thousand columns.
pub(crate) const MAX_STEPS: i64 = 2000;

/// From the first second on, until before the last: seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First second.
    pub(crate) from: i64,
    /// First second after it.
    pub(crate) to: i64,
}

impl Span {
    /// Reads the parameters `from` and `to`; `default` is the begin where none is given, `now` is seconds since the epoch.
    pub(crate) fn parse(
        from: Option<&str>,
        to: Option<&str>,
        default: &str,
        now: i64,
    ) -> Result<Self, ApiError> {
        let from = instant("from", from.unwrap_or(default), now)?.0;
        let (to, has_rest) = instant("to", to.unwrap_or("now"), now)?;
        // A part of a second belongs to the window.
        let to = to + i64::from(has_rest);
        if to <= from {
            return Err(ApiError::bad_parameter(
                "the window is empty: `to` must be after `from`",
            ));
        }
        if to - from > MAX_WINDOW_S {
            return Err(ApiError::bad_parameter(
                "the window is longer than 400 days: ask for less",
            ));
        }
        Ok(Self { from, to })
    }

    /// The last 24 hours.
    pub(crate) fn last_day(now: i64) -> Self {
        Self {
            from: now - 86_400,
            to: now + 1,
        }
    }

    /// Length, seconds.
    pub(crate) fn seconds(self) -> i64 {
        self.to - self.from
    }

    /// Widened to whole steps of so many seconds since the epoch.
    pub(crate) fn widened(self, step_s: i64) -> Self {
        Self {
            from: self.from.div_euclid(step_s) * step_s,
            to: (self.to + step_s - 1).div_euclid(step_s) * step_s,
        }
    }

    /// As answers have it.
    pub(crate) fn window(self) -> Window {
        Window {
            from: rfc3339(self.from),
            to: rfc3339(self.to),
        }
    }

    /// The step asked for, or one that gives 60 to 180 of them; raised to whole `finest` and until there are not too many.
    pub(crate) fn step(self, asked: Option<u32>, finest: i64) -> Result<i64, ApiError> {
        const NICE: [i64; 15] = [
            1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400,
        ];
        if asked.is_some_and(|step| !(1..=86_400).contains(&step)) {
            return Err(ApiError::bad_parameter("step must be 1 to 86400 seconds"));
        }
        let length = self.seconds();
        let wanted = asked.map_or_else(
            || {
                NICE.into_iter()
                    .find(|step| length / step <= 180)
                    .unwrap_or(86_400)
            },
            i64::from,
        );
        let least = (length + MAX_STEPS - 1) / MAX_STEPS;
        let step = wanted.max(least).max(finest);
        Ok((step + finest - 1) / finest * finest)
    }

    /// Starts of the steps of the window.
    pub(crate) fn steps(self, step_s: i64) -> impl Iterator<Item = i64> {
        let first = self.from.div_euclid(step_s) * step_s;
        (0..)
            .map(move |i| first + i * step_s)
            .take_while(move |start| *start < self.to)
    }
}

/// Seconds since the epoch, and whether there was a part of one more.
fn instant(name: &str, text: &str, now: i64) -> Result<(i64, bool), ApiError> {
    let wrong = || {
        ApiError::bad_parameter(format!(
            "{name} is not a time: write 2026-05-01T12:00:00Z, now, or now-24h (units s, m, h, d)"
        ))
    };
    if let Some(relative) = text.strip_prefix("now") {
        if relative.is_empty() {
            // The second that runs belongs to it.
            return Ok((now, true));
        }
        let (number, factor) = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
            .into_iter()
            .find_map(|(unit, factor)| Some((relative.strip_prefix('-')?.strip_suffix(unit)?, factor)))
            .ok_or_else(wrong)?;
        let is_number = !number.is_empty() && number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit());
        let number: i64 = number.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        return Ok((now - number * factor, false));
    }
    let micros = parse_rfc3339(text).ok_or_else(wrong)?;
    Ok((micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) != 0))
}

/// Microseconds since the epoch, of years that the store can hold.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let micros = i64::try_from(at.unix_timestamp_nanos().div_euclid(1000)).ok()?;
    // DateTime ends in 2106.
    (0..=4_294_967_295_000_000).contains(&micros).then_some(micros)
}

/// Seconds since the epoch as RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    rfc3339_us(seconds.saturating_mul(1_000_000))
}

/// Microseconds since the epoch as RFC 3339; the epoch itself where they are no time.
pub(crate) fn rfc3339_us(micros: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// Microseconds since the epoch, now.
pub(crate) fn now_us() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// Seconds since the epoch, now.
pub(crate) fn now_s() -> i64 {
    now_us() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    #[track_caller]
    fn span(from: Option<&str>, to: Option<&str>) -> Span {
        Span::parse(from, to, "now-24h", NOW).unwrap()
    }

    #[test]
    fn relative_times_count_from_now() {
        assert_eq!(
            span(None, None),
            Span {
                from: NOW - 86_400,
                to: NOW + 1
            }
        );
        assert_eq!(
            span(Some("now-15m"), Some("now-5s")),
            Span {
                from: NOW - 900,
                to: NOW - 5
            }
        );
    }

    #[test]
    fn a_part_of_a_second_is_in_the_window() {
        let span = span(
            Some("2026-05-01T00:00:00.9Z"),
            Some("2026-05-01T02:00:00.1+02:00"),
        );
        assert_eq!(span.seconds(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for (from, to) in [
            (Some("yesterday"), None),
            (Some("now-5"), None),
            (Some("now--5s"), None),
            (Some("now-99999999999999d"), None),
            (Some("now"), Some("now-1h")),
            (Some("now-401d"), None),
            (Some("9999-01-01T00:00:00Z"), None),
            (Some("1900-01-01T00:00:00Z"), None),
        ] {
            assert!(Span::parse(from, to, "now-24h", NOW).is_err(), "{from:?} {to:?}");
        }
    }

    #[test]
    fn steps_cover_the_window_and_are_not_too_many() {
        let day = Span {
            from: NOW,
            to: NOW + 86_400,
        };
        assert_eq!(day.step(None, 1).unwrap(), 600);
        assert_eq!(day.step(Some(1), 1).unwrap(), 44);
        assert_eq!(day.step(Some(100), 60).unwrap(), 120);
        assert!(day.step(Some(0), 1).is_err() && day.step(Some(90_000), 1).is_err());
        let steps: Vec<i64> = day.steps(600).collect();
        assert!(steps[0] <= NOW && steps[0] > NOW - 600);
        assert!(*steps.last().unwrap() < day.to && *steps.last().unwrap() >= day.to - 600);
    }

    #[test]
    fn times_are_written_with_their_zone() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_us(1_500_000), "1970-01-01T00:00:01.5Z");
    }
}
