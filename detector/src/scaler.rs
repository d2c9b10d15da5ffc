//! What is usual in a population: centre and spread of every feature, quantiles, medians by host; and the way from a value
//! to what a model sees. Pure.

use std::sync::LazyLock;

use ja4_reasons::{Direction, FEATURES, Transform, Unit};

use crate::features::{Base, N_BASES, N_FEATURES, base};
use crate::stats::{self, LEVELS};

/// Weight of the population's share against a client's own, in things counted.
const SHRINK: f32 = 4.0;
/// How many features the robust z takes: the most extreme ones.
pub const TOP: usize = 3;
/// Fewest clients of a host that a median is worth giving for.
const MIN_HOST_CLIENTS: usize = 30;
/// Most hosts with medians of their own: 11 kB in a saved model.
const MAX_HOSTS: usize = 32;

/// The base of each feature, looked up once.
static BASES: LazyLock<[Base; N_FEATURES]> =
    LazyLock::new(|| std::array::from_fn(|idx| base(FEATURES[idx].name)));

/// Least spread of a feature as a model sees it. Most clients have no 404 at all: without a floor one would be infinitely far.
/// The first of a thing that most have none of is one spread, ln(1 + 1).
fn floor(idx: usize, center: f32) -> f32 {
    match (FEATURES[idx].transform, FEATURES[idx].unit) {
        (Transform::Log1p | Transform::PerSession, _) if center <= 0.0 => std::f32::consts::LN_2,
        (Transform::Log1p | Transform::PerSession, _) => 0.35,
        (Transform::Shrink, _) => 0.1,
        (Transform::None, Unit::Flag) => 0.25,
        (Transform::None, _) => 1.0,
    }
}

/// A population's usual values.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    /// Median of each feature in its unit; NaN where no client has it.
    pub median: Vec<f32>,
    /// Median of each feature as a model sees it; stands for missing values there.
    pub center: Vec<f32>,
    /// Distance of the quartiles as a model sees it, at least a floor.
    pub spread: Vec<f32>,
    /// Quantiles in the feature's unit: `[N_FEATURES × LEVELS]`.
    pub quantiles: Vec<f32>,
    /// Medians of hosts with enough clients, by name.
    pub hosts: Vec<HostMedians>,
    /// Clients that it was made from.
    pub n_rows: usize,
}

/// Medians of the clients of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostMedians {
    /// The host.
    pub host: String,
    /// Its clients.
    pub n_rows: usize,
    /// Median of each feature in its unit.
    pub median: Vec<f32>,
}

/// Rows as they are held: values in their units, and what shares are shares of.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// `N_FEATURES` values, NaN for missing.
    pub values: &'a [f32],
    /// Counts by [`Base`].
    pub bases: &'a [f32; N_BASES],
    /// Host asked.
    pub host: &'a str,
}

impl Scaler {
    /// The usual values of these rows.
    pub fn fit(rows: &[Row<'_>]) -> Self {
        let mut scaler = Self {
            median: vec![f32::NAN; N_FEATURES],
            center: vec![0.0; N_FEATURES],
            spread: (0..N_FEATURES).map(|idx| floor(idx, 0.0)).collect(),
            quantiles: vec![f32::NAN; N_FEATURES * LEVELS.len()],
            hosts: Vec::new(),
            n_rows: rows.len(),
        };
        let mut column = Vec::with_capacity(rows.len());
        for idx in 0..N_FEATURES {
            column.clear();
            column.extend(
                rows.iter()
                    .map(|row| row.values[idx])
                    .filter(|value| !value.is_nan()),
            );
            if column.is_empty() {
                continue;
            }
            column.sort_unstable_by(f32::total_cmp);
            scaler.median[idx] = stats::quantile(&column, 0.5);
            scaler.quantiles[idx * LEVELS.len()..(idx + 1) * LEVELS.len()]
                .copy_from_slice(&stats::quantiles(&column));
            column.clear();
            column.extend(
                rows.iter()
                    .map(|row| scaler.transformed(idx, row))
                    .filter(|value| !value.is_nan()),
            );
            column.sort_unstable_by(f32::total_cmp);
            scaler.center[idx] = stats::quantile(&column, 0.5);
            scaler.spread[idx] = (stats::quantile(&column, 0.75) - stats::quantile(&column, 0.25))
                .max(floor(idx, scaler.center[idx]));
        }
        scaler.hosts = host_medians(rows);
        scaler
    }

    /// One value as a model sees it; NaN for missing.
    fn transformed(&self, idx: usize, row: &Row<'_>) -> f32 {
        let value = row.values[idx];
        if value.is_nan() {
            return value;
        }
        match FEATURES[idx].transform {
            Transform::None => value,
            Transform::Log1p => value.max(0.0).ln_1p(),
            Transform::PerSession => (value.max(0.0) / row.bases[Base::Sessions as usize].max(1.0)).ln_1p(),
            Transform::Shrink => {
                let n = row.bases[BASES[idx] as usize];
                let usual = self.median[idx];
                if usual.is_nan() {
                    value
                } else {
                    (value * n + SHRINK * usual) / (n + SHRINK)
                }
            }
        }
    }

    /// Writes what a model sees: transformed, and the population's median for what is missing.
    pub fn write(&self, row: &Row<'_>, out: &mut [f32]) {
        for (idx, place) in out.iter_mut().enumerate() {
            let value = self.transformed(idx, row);
            *place = if value.is_nan() { self.center[idx] } else { value };
        }
    }

    /// How far one seen value is out on the side that speaks for a bot, in spreads; 0 on the other side.
    pub(crate) fn z(&self, idx: usize, seen: f32) -> f32 {
        let z = (seen - self.center[idx]) / self.spread[idx];
        match FEATURES[idx].direction {
            Direction::Up => z.max(0.0),
            Direction::Down => (-z).max(0.0),
            Direction::Both => z.abs(),
            Direction::Context => 0.0,
        }
    }

    /// The most extreme features of a row as a model sees it, and the mean of their distances.
    pub fn robust_z(&self, seen: &[f32]) -> RobustZ {
        let mut top = [(0_usize, 0.0_f32); TOP];
        for (idx, &value) in seen.iter().enumerate() {
            let z = self.z(idx, value);
            // Insertion keeps the first of equals: ties break by position.
            if let Some(place) = top.iter().position(|(_, best)| z > *best) {
                top[place..].rotate_right(1);
                top[place] = (idx, z);
            }
        }
        let mean = top.iter().map(|(_, z)| z).sum::<f32>() / TOP as f32;
        RobustZ { mean, top }
    }

    /// True if the middle half of the population differs in a feature.
    pub fn varies(&self, idx: usize) -> bool {
        self.quantiles[idx * LEVELS.len() + LEVELS.len() / 2 - 3]
            < self.quantiles[idx * LEVELS.len() + LEVELS.len() / 2 + 3]
    }

    /// Percentile of a value among the population, 0 to 100.
    pub fn percentile(&self, idx: usize, value: f32) -> f32 {
        stats::percentile(
            &self.quantiles[idx * LEVELS.len()..(idx + 1) * LEVELS.len()],
            value,
        )
    }

    /// The median to show for a client of `host`, and what it is the median of: `host:312` or `site:4000`.
    pub fn shown_median(&self, idx: usize, host: &str) -> (f32, String) {
        match self.hosts.iter().find(|known| known.host == host) {
            Some(known) if !known.median[idx].is_nan() => {
                (known.median[idx], format!("host:{}", known.n_rows))
            }
            _ => (self.median[idx], format!("site:{}", self.n_rows)),
        }
    }
}

/// The robust z of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustZ {
    /// Mean of the three largest distances, in spreads.
    pub mean: f32,
    /// The features and their distances, largest first; distance 0 for none.
    pub top: [(usize, f32); TOP],
}

fn host_medians(rows: &[Row<'_>]) -> Vec<HostMedians> {
    let mut by_host = std::collections::BTreeMap::<&str, Vec<usize>>::new();
    for (number, row) in rows.iter().enumerate() {
        by_host.entry(row.host).or_default().push(number);
    }
    let mut hosts: Vec<_> = by_host
        .into_iter()
        .filter(|(_, members)| members.len() >= MIN_HOST_CLIENTS)
        .collect();
    hosts.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    hosts.truncate(MAX_HOSTS);
    let mut column = Vec::new();
    hosts
        .into_iter()
        .map(|(host, members)| {
            let median = (0..N_FEATURES)
                .map(|idx| {
                    column.clear();
                    column.extend(
                        members
                            .iter()
                            .map(|&m| rows[m].values[idx])
                            .filter(|value| !value.is_nan()),
                    );
                    column.sort_unstable_by(f32::total_cmp);
                    stats::quantile(&column, 0.5)
                })
                .collect();
            HostMedians {
                host: host.to_owned(),
                n_rows: members.len(),
                median,
            }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::features::position;

    const REQUESTS: usize = position("requests");
    const NOT_FOUND: usize = position("ratio_404");
    const COOKIES: usize = position("cookie_ratio");
    const NIGHT: usize = position("night_share");

    /// So many of everything, in one session.
    fn bases(n: f32) -> [f32; N_BASES] {
        let mut bases = [n; N_BASES];
        bases[Base::Sessions as usize] = 1.0;
        bases
    }

    fn population() -> (Vec<Vec<f32>>, [f32; N_BASES]) {
        let rows = (0..200_u16)
            .map(|n| {
                let mut values = vec![f32::NAN; N_FEATURES];
                values[REQUESTS] = 10.0 + f32::from(n % 20);
                values[NOT_FOUND] = 0.0;
                values[COOKIES] = 0.9;
                values[NIGHT] = 0.0;
                values
            })
            .collect();
        (rows, bases(20.0))
    }

    fn scaler() -> Scaler {
        let (values, bases) = population();
        let rows: Vec<Row<'_>> = values
            .iter()
            .map(|values| Row {
                values,
                bases: &bases,
                host: "h",
            })
            .collect();
        Scaler::fit(&rows)
    }

    fn z_of(scaler: &Scaler, changes: &[(usize, f32)], base: f32) -> RobustZ {
        z_with(scaler, changes, &bases(base))
    }

    fn z_with(scaler: &Scaler, changes: &[(usize, f32)], bases: &[f32; N_BASES]) -> RobustZ {
        let (rows, _) = population();
        let mut values = rows[0].clone();
        for (idx, value) in changes {
            values[*idx] = *value;
        }
        let mut seen = vec![0.0; N_FEATURES];
        scaler.write(
            &Row {
                values: &values,
                bases,
                host: "h",
            },
            &mut seen,
        );
        scaler.robust_z(&seen)
    }

    #[test]
    fn few_requests_say_little_about_a_share() {
        let scaler = scaler();
        let (few, many) = (
            z_of(&scaler, &[(NOT_FOUND, 1.0)], 1.0),
            z_of(&scaler, &[(NOT_FOUND, 1.0)], 1000.0),
        );
        assert!(few.top[0].1 < 3.0 && many.top[0].1 > 9.0, "{few:?} {many:?}");
        assert_eq!(many.top[0].0, NOT_FOUND);
    }

    #[test]
    fn volumes_are_a_session_s_part() {
        let scaler = scaler();
        let z = |n_sessions: f32| {
            let mut bases = bases(20.0);
            bases[Base::Sessions as usize] = n_sessions;
            z_with(&scaler, &[(REQUESTS, 400.0)], &bases).top[0].1
        };
        assert!(z(1.0) > 5.0 && z(20.0) < 0.5, "{} {}", z(1.0), z(20.0));
    }

    #[test]
    fn only_the_suspicious_side_counts() {
        let scaler = scaler();
        assert!(z_of(&scaler, &[(REQUESTS, 4000.0)], 20.0).top[0].1 > 5.0);
        assert!(z_of(&scaler, &[(REQUESTS, 0.0)], 20.0).mean < 0.5);
        assert!(z_of(&scaler, &[(COOKIES, 0.0)], 1000.0).mean > 2.0);
        assert!(z_of(&scaler, &[(COOKIES, 1.0)], 1000.0).mean < 1.0);
        assert!(
            z_of(&scaler, &[(NIGHT, 1.0)], 1000.0).mean < 1.0,
            "context is no evidence by itself"
        );
    }

    #[test]
    fn missing_values_are_neither_zero_nor_evidence() {
        let scaler = scaler();
        let z = z_of(&scaler, &[(COOKIES, f32::NAN), (REQUESTS, f32::NAN)], 20.0);
        assert_eq!(z.mean, 0.0);
        let values = vec![f32::NAN; N_FEATURES];
        let row = Row {
            values: &values,
            bases: &bases(20.0),
            host: "h",
        };
        let mut seen = vec![-1.0; N_FEATURES];
        scaler.write(&row, &mut seen);
        assert_eq!(seen, scaler.center);
    }

    #[test]
    fn medians_are_the_host_s_where_it_has_enough_clients() {
        let scaler = scaler();
        assert_eq!(scaler.shown_median(REQUESTS, "h"), (19.5, "host:200".to_owned()));
        assert_eq!(
            scaler.shown_median(REQUESTS, "other"),
            (19.5, "site:200".to_owned())
        );
        assert!(scaler.percentile(REQUESTS, 4000.0) >= 100.0);
    }

    #[test]
    fn an_empty_population_has_no_opinion() {
        let scaler = Scaler::fit(&[]);
        assert!(scaler.median[REQUESTS].is_nan());
        assert!(scaler.percentile(REQUESTS, 1.0).is_nan());
    }
}
