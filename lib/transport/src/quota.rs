//! A token bucket. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Fills at `rate` up to a burst; may be overdrawn once and then waits until it is paid back.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// `rate` per `period`; a period's worth may be taken at once. A rate of 0 never refills.
    pub(crate) fn new(rate: u64, period: Duration, now: Instant) -> Self {
        let burst = rate as f64;
        Self {
            per_second: burst / period.as_secs_f64(),
            burst,
            level: burst,
            at: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.level = self.per_second.mul_add(elapsed, self.level).min(self.burst);
    }

    /// True if something may be taken now.
    pub(crate) fn is_open(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level > 0.0
    }

    /// Takes `n`, also more than is there.
    pub(crate) fn take(&mut self, n: u64) {
        self.level -= n as f64;
    }

    /// Time until something may be taken again, at least a millisecond and at most a second.
    pub(crate) fn wait(&self) -> Duration {
        let seconds = (-self.level / self.per_second).clamp(0.001, 1.0);
        if seconds.is_finite() {
            Duration::from_secs_f64(seconds)
        } else {
            Duration::from_secs(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_paid_back_before_more_is_given() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, Duration::from_secs(1), start);
        assert!(bucket.is_open(start));
        bucket.take(150);
        assert!(!bucket.is_open(start + Duration::from_millis(400)));
        assert!(bucket.wait() > Duration::from_millis(50));
        assert!(bucket.is_open(start + Duration::from_millis(600)));
    }

    #[test]
    fn an_idle_bucket_holds_no_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, Duration::from_secs(1), start);
        let later = start + Duration::from_hours(1);
        assert!(bucket.is_open(later));
        bucket.take(10);
        assert!(!bucket.is_open(later));
    }

    #[test]
    fn a_rate_of_nothing_stays_shut() {
        let start = Instant::now();
        let mut bucket = Bucket::new(0, Duration::from_secs(1), start);
        assert!(!bucket.is_open(start + Duration::from_hours(1)));
        assert_eq!(bucket.wait(), Duration::from_secs(1));
    }
}
