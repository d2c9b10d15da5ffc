//! Numbers for people: grouped digits, and values with their unit.

use crate::dictionary::Unit;

/// An integer with a space between groups of three digits: `4 037`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0.0 && digits.bytes().any(|digit| digit != b'0') {
        out.push('-');
    }
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A value in its unit, as short as is still exact enough: `1.4 s`, `83 %`, `12`.
pub fn amount(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "unknown".to_owned();
    }
    match unit {
        Unit::Count | Unit::Number => plain(value),
        Unit::Ratio => format!("{} %", plain(value * 100.0)),
        Unit::Seconds => seconds(value),
        Unit::Milliseconds => seconds(value / 1000.0),
        Unit::Bytes => bytes(value),
        Unit::Bits => format!("{} bits", plain(value)),
        Unit::PerHour => format!("{} an hour", plain(value)),
        Unit::PerMinute => format!("{} a minute", plain(value)),
        Unit::Hours => seconds(value * 3600.0),
        Unit::Days => format!("{} days", plain(value)),
        Unit::Flag => if value >= 0.5 { "yes" } else { "no" }.to_owned(),
    }
}

/// Whole from 100 on, one decimal from 10 on, else two; no trailing zeros.
fn plain(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => return grouped(value),
        size if size >= 10.0 => 1,
        size if size >= 0.01 => 2,
        0.0 => 0,
        _ => return if value > 0.0 { "under 0.01" } else { "over -0.01" }.to_owned(),
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn seconds(value: f64) -> String {
    match value.abs() {
        size if size < 1.0 => format!("{} ms", plain(value * 1000.0)),
        size if size < 120.0 => format!("{} s", plain(value)),
        size if size < 7200.0 => format!("{} min", plain(value / 60.0)),
        size if size < 172_800.0 => format!("{} h", plain(value / 3600.0)),
        _ => format!("{} days", plain(value / 86_400.0)),
    }
}

fn bytes(value: f64) -> String {
    match value.abs() {
        size if size < 10_000.0 => format!("{} bytes", plain(value)),
        size if size < 10_000_000.0 => format!("{} kB", plain(value / 1000.0)),
        _ => format!("{} MB", plain(value / 1_000_000.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, unit: Unit, expected: &str) {
        assert_eq!(amount(value, unit), expected);
    }

    #[test]
    fn digits_are_grouped() {
        check(4037.0, Unit::Count, "4 037");
        check(1_234_567.0, Unit::Count, "1 234 567");
        check(999.4, Unit::Count, "999");
        check(-1234.0, Unit::Number, "-1 234");
        check(0.0, Unit::Count, "0");
    }

    #[test]
    fn small_numbers_keep_what_matters() {
        check(12.0, Unit::Count, "12");
        check(1.5, Unit::Number, "1.5");
        check(12.34, Unit::Number, "12.3");
        check(0.0004, Unit::Number, "under 0.01");
    }

    #[test]
    fn units_are_said() {
        check(0.834, Unit::Ratio, "83.4 %");
        check(1.0, Unit::Ratio, "100 %");
        check(0.05, Unit::Seconds, "50 ms");
        check(90.0, Unit::Seconds, "90 s");
        check(600.0, Unit::Seconds, "10 min");
        check(20_000.0, Unit::Bytes, "20 kB");
        check(1.0, Unit::Flag, "yes");
        check(f64::NAN, Unit::Count, "unknown");
    }
}
