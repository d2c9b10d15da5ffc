//! Times as people read them; civil dates from days (Hinnant, "chrono-compatible low-level date algorithms").

/// `2026-11-26 10:05 UTC` of seconds since the epoch.
pub fn minute(seconds: i64) -> String {
    let (year, month, day, rest) = civil(seconds);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60
    )
}

/// `2026-11-26T10:05:07Z` of seconds since the epoch.
pub fn rfc3339(seconds: i64) -> String {
    let (year, month, day, rest) = civil(seconds);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Seconds since the epoch of `2026-11-26T10:05:07Z`, or of a plain number of seconds.
///
/// # Errors
/// One line with an example.
pub fn parse(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time such as 2026-11-26T10:05:00Z or seconds since 1970");
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    let (date, time) = text
        .strip_suffix('Z')
        .and_then(|text| text.split_once('T'))
        .ok_or_else(wrong)?;
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let numbers: Vec<i64> = text
            .split(separator)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        numbers.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-').ok_or_else(wrong)?;
    let [hours, minutes, seconds] = numbers(time, ':').ok_or_else(wrong)?;
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hours)
        && (0..60).contains(&minutes)
        && (0..60).contains(&seconds);
    if !in_range {
        return Err(wrong());
    }
    Ok(days(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// Days since the epoch of a civil date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month, day, and seconds of the day.
fn civil(seconds: i64) -> (i64, i64, i64, i64) {
    let (days, rest) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        for seconds in [
            0,
            951_782_399,
            951_782_400,
            1_709_164_800,
            1_795_687_507,
            4_102_444_799,
        ] {
            assert_eq!(parse(&rfc3339(seconds)).unwrap(), seconds);
        }
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(minute(0), "1970-01-01 00:00 UTC");
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "",
            "now",
            "2026-13-01T00:00:00Z",
            "2026-11-26T24:00:00Z",
            "2026-11-26 10:00",
            "2026-11T1:2:3Z",
        ] {
            assert!(
                parse(text).unwrap_err().contains("2026-11-26T10:05:00Z"),
                "{text}"
            );
        }
    }
}
