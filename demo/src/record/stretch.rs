//! Which visit a connection belongs to, and when that visit is. Pure.
//!
//! A visit is what one address does without a pause: connections that overlap, or follow each other within
//! [`SLACK_NS`]. Behind a NAT each connection is its own, since people there overlap. A visit keeps its inner times
//! and moves to where its start falls when the whole recording is stretched to the span.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clients::NAT;

/// A browser opens its second connection within this.
const SLACK_NS: i64 = 2_000_000_000;

/// Client address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) ip: Ipv4Addr,
    pub(super) port: u16,
}

/// One TCP connection: when its SYN came and when the last request on it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
}

impl Connection {
    pub(super) fn new(key: Key, first_ns: i64) -> Self {
        Self {
            key,
            first_ns,
            last_ns: first_ns,
        }
    }

    pub(super) fn saw(&mut self, ts_ns: i64) {
        self.last_ns = self.last_ns.max(ts_ns);
    }
}

/// How far each connection is moved.
#[derive(Debug)]
pub(super) struct Plan(Vec<i64>);

impl Plan {
    /// For connections in the order of their start, recorded between two times.
    pub(super) fn new(connections: &[Connection], first_ns: i64, last_ns: i64, span: Duration) -> Self {
        let length = i128::from((last_ns - first_ns).max(1));
        let more = (i128::try_from(span.as_nanos()).unwrap_or(i128::MAX) - length).max(0);
        let mut visits: BTreeMap<Ipv4Addr, (i64, i64)> = BTreeMap::new();
        let mut shifts = Vec::with_capacity(connections.len());
        for connection in connections {
            let visit = visits.get(&connection.key.ip).copied();
            let (start, end) = match visit {
                Some((start, end)) if connection.first_ns <= end + SLACK_NS && connection.key.ip != NAT => {
                    (start, end)
                }
                _ => (connection.first_ns, connection.first_ns),
            };
            visits.insert(connection.key.ip, (start, end.max(connection.last_ns)));
            let shift = i128::from(start - first_ns) * more / length;
            shifts.push(i64::try_from(shift).unwrap_or(i64::MAX));
        }
        Self(shifts)
    }

    /// Nanoseconds by which a connection is moved.
    pub(super) fn shift_ns(&self, connection: usize) -> i64 {
        self.0.get(connection).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn plan(connections: &[(u8, i64, i64)]) -> Vec<i64> {
        let connections: Vec<_> = connections
            .iter()
            .map(|&(host, first, last)| Connection {
                key: Key {
                    ip: Ipv4Addr::new(127, 10, 0, host),
                    port: 1,
                },
                first_ns: first * S,
                last_ns: last * S,
            })
            .collect();
        let plan = Plan::new(&connections, 0, 100 * S, Duration::from_secs(1000));
        (0..connections.len()).map(|n| plan.shift_ns(n) / S).collect()
    }

    #[test]
    fn a_visit_moves_as_a_whole_and_the_time_between_visits_grows() {
        // Two connections of one visit, then a visit of the same person a minute later, ten times as far away.
        assert_eq!(plan(&[(1, 10, 30), (1, 11, 20), (1, 90, 95)]), [90, 90, 810]);
    }

    #[test]
    fn people_do_not_move_each_other() {
        assert_eq!(plan(&[(1, 10, 30), (2, 20, 40)]), [90, 180]);
    }
}
