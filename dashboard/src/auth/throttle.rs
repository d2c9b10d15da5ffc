//! Slows down whoever guesses: attempts to log in, by address and by name.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most addresses and names that are remembered each; one more forgets the one that has waited longest.
const MAX_REMEMBERED: usize = 10_000;

/// Attempts of one address before it must wait, and how long until it has one more.
const BY_ADDRESS: Rate = Rate {
    burst: 20,
    refill: Duration::from_secs(3),
};
/// Attempts for one name. Slow enough that a thousand machines guess five thousand times a day.
const BY_NAME: Rate = Rate {
    burst: 8,
    refill: Duration::from_secs(15),
};

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    refill: Duration,
}

/// Attempts so far.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    by_address: Mutex<Buckets<IpAddr>>,
    by_name: Mutex<Buckets<String>>,
}

#[derive(Debug)]
struct Buckets<K>(HashMap<K, Bucket>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// When all attempts will be there again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Throttle {
    /// Takes an attempt.
    ///
    /// # Errors
    /// Seconds to wait.
    pub(crate) fn attempt(&self, address: IpAddr, name: Option<&str>, now: Instant) -> Result<(), u64> {
        let address = network_of(address);
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(address, BY_ADDRESS, now)?;
        match name {
            Some(name) => self.by_name.lock().unwrap_or_else(PoisonError::into_inner).take(
                name.to_owned(),
                BY_NAME,
                now,
            ),
            None => Ok(()),
        }
    }

    /// A login that worked gives the name its attempts back.
    pub(crate) fn forgive(&self, name: &str) {
        self.by_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(name);
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), u64> {
        let full_at = self.0.get(&key).map_or(now, |bucket| bucket.full_at.max(now));
        let next = full_at + rate.refill;
        let longest = rate.refill * rate.burst;
        if next.saturating_duration_since(now) > longest {
            let wait = next.saturating_duration_since(now).saturating_sub(longest);
            return Err(wait.as_secs() + 1);
        }
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&key) {
            self.0.retain(|_, bucket| bucket.full_at > now);
            let first = self
                .0
                .iter()
                .min_by_key(|(_, bucket)| bucket.full_at)
                .map(|(key, _)| key.clone());
            if self.0.len() >= MAX_REMEMBERED
                && let Some(first) = first
            {
                self.0.remove(&first);
            }
        }
        self.0.insert(key, Bucket { full_at: next });
        Ok(())
    }
}

/// A /64 is one customer of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_few_attempts_and_gets_them_back_with_time() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let address = |i: u8| IpAddr::from([10, 0, 0, i]);
        for i in 0..8 {
            throttle.attempt(address(i), Some("ada"), now).unwrap();
        }
        let wait = throttle.attempt(address(9), Some("ada"), now).unwrap_err();
        assert!((1..=16).contains(&wait), "{wait}");
        throttle.attempt(address(9), Some("bob"), now).unwrap();
        throttle
            .attempt(address(9), Some("ada"), now + Duration::from_secs(wait))
            .unwrap();
        throttle.forgive("ada");
        throttle.attempt(address(9), Some("ada"), now).unwrap();
    }

    #[test]
    fn an_address_has_few_attempts_whatever_the_names() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let one = "2001:db8::1".parse().unwrap();
        let beside = "2001:db8::2".parse().unwrap();
        for i in 0..20 {
            throttle.attempt(one, Some(&i.to_string()), now).unwrap();
        }
        assert!(throttle.attempt(beside, Some("x"), now).is_err());
        assert!(throttle.attempt(one, None, now).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for i in 0..u32::try_from(MAX_REMEMBERED).unwrap() + 100 {
            throttle
                .attempt(IpAddr::from(i.to_be_bytes()), None, now)
                .unwrap();
        }
        assert_eq!(throttle.by_address.lock().unwrap().0.len(), MAX_REMEMBERED);
    }
}
