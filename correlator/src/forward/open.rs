//! Connections that are still open, for a correlator that has begun after them.
//!
//! Kept is the event that a connection began with and the newest confirmation, as they were sealed. Over the budget
//! the oldest goes: requests on it are joined to nothing after a restart of the correlator, as without this table.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ja4_model::{CloseReason, ConnUid, Event};

use super::segment::ProducerName;

/// Bytes that an entry costs beside its envelopes.
const ENTRY_BYTES: usize = 256;

#[derive(Debug)]
struct Entry {
    producer: ProducerName,
    seq: u64,
    age: u64,
    hello: Bytes,
    confirm: Option<Bytes>,
}

impl Entry {
    fn cost(&self) -> usize {
        self.hello.len() + self.confirm.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES
    }
}

/// What an event of a sensor changes.
#[derive(Debug)]
pub(crate) enum OpenNote {
    Begun {
        uid: ConnUid,
        producer: ProducerName,
        seq: u64,
        hello: Bytes,
    },
    Confirmed {
        uid: ConnUid,
        confirm: Bytes,
    },
    Ended {
        uid: ConnUid,
    },
}

impl OpenNote {
    /// Of an event, if it changes anything; `envelope` gives it as it is sealed.
    pub(crate) fn of(
        producer: &ProducerName,
        seq: u64,
        event: &Event<'_>,
        envelope: impl FnOnce() -> Bytes,
    ) -> Option<Self> {
        let begun = |uid, hello| Self::Begun {
            uid,
            producer: producer.clone(),
            seq,
            hello,
        };
        match event {
            Event::ClientHello(hello) if hello.hello_index == 0 => {
                Some(begun(hello.conn.conn_uid, envelope()))
            }
            Event::Open(open) => Some(begun(open.conn.conn_uid, envelope())),
            Event::Confirm(confirm) => Some(Self::Confirmed {
                uid: confirm.conn_uid,
                confirm: envelope(),
            }),
            // What the sensor stops watching may live on, for ever: only an end that was seen is one, and room is
            // made by age.
            Event::Close(close) if !matches!(close.reason, CloseReason::Evicted | CloseReason::Idle) => {
                Some(Self::Ended { uid: close.conn_uid })
            }
            _ => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct OpenConnections {
    by_uid: HashMap<ConnUid, Entry>,
    by_age: BTreeMap<u64, ConnUid>,
    next_age: u64,
    bytes: usize,
    max_bytes: usize,
    /// Connections that were let go for room.
    pub(crate) evicted: u64,
}

impl OpenConnections {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            by_uid: HashMap::new(),
            by_age: BTreeMap::new(),
            next_age: 0,
            bytes: 0,
            max_bytes,
            evicted: 0,
        }
    }

    /// Takes in what was sealed. Not before: what is announced and not sealed would come to the correlator twice, first as an
    /// announcement, for which no row is written.
    pub(crate) fn take_in(&mut self, notes: impl IntoIterator<Item = OpenNote>) {
        for note in notes {
            match note {
                OpenNote::Begun {
                    uid,
                    producer,
                    seq,
                    hello,
                } => self.insert(uid, &producer, seq, hello),
                OpenNote::Confirmed { uid, confirm } => {
                    if let Some(entry) = self.by_uid.get_mut(&uid) {
                        self.bytes -= entry.cost();
                        entry.confirm = Some(confirm);
                        self.bytes += entry.cost();
                    }
                }
                OpenNote::Ended { uid } => self.remove(uid),
            }
            self.make_room();
        }
    }

    fn insert(&mut self, uid: ConnUid, producer: &ProducerName, seq: u64, hello: Bytes) {
        self.remove(uid);
        let age = self.next_age;
        self.next_age += 1;
        let entry = Entry {
            producer: producer.clone(),
            seq,
            age,
            hello,
            confirm: None,
        };
        self.bytes += entry.cost();
        self.by_age.insert(age, uid);
        self.by_uid.insert(uid, entry);
    }

    fn remove(&mut self, uid: ConnUid) {
        if let Some(entry) = self.by_uid.remove(&uid) {
            self.bytes -= entry.cost();
            self.by_age.remove(&entry.age);
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.max_bytes
            && let Some((_, uid)) = self.by_age.pop_first()
        {
            self.remove(uid);
            self.evicted += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Envelopes of connections that a new correlator must be told of, oldest first: those whose beginning does not
    /// wait in the spool. `waits_from` gives the first number of a producer that does.
    pub(crate) fn to_announce(
        &self,
        waits_from: impl Fn(&ProducerName) -> u64,
    ) -> Vec<(ProducerName, Bytes, Option<Bytes>)> {
        let entries = self.by_age.values().filter_map(|uid| self.by_uid.get(uid));
        entries
            .filter(|entry| entry.seq < waits_from(&entry.producer))
            .map(|entry| (entry.producer.clone(), entry.hello.clone(), entry.confirm.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use ja4_model::{Close, Confirm, Confirmed, ConnFacts, ConnFlags, Direction, Open, Pair, Transport};

    use super::*;

    fn note(open: &mut OpenConnections, seq: u64, event: &Event<'_>, bytes: &'static [u8]) {
        let producer = ProducerName {
            source: "sensor".to_owned(),
            boot: 1,
        };
        open.take_in(OpenNote::of(&producer, seq, event, || Bytes::from_static(bytes)));
    }

    fn opened(uid: u128) -> Event<'static> {
        let conn = ConnFacts {
            conn_uid: ConnUid(uid),
            transport: Transport::Tcp,
            pair: Pair::default(),
            views: Vec::new(),
            encap: None,
            open_ts_ns: None,
            syn_to_hello_us: None,
            tcp: None,
            direction: Direction::Ingress,
            confirmed: Confirmed::None,
            flags: ConnFlags::default(),
        };
        Event::Open(Open { conn })
    }

    fn closed(uid: u128, reason: CloseReason) -> Event<'static> {
        Event::Close(Close {
            conn_uid: ConnUid(uid),
            pair: None,
            reason,
            confirmed: Confirmed::None,
        })
    }

    #[test]
    fn what_is_open_and_does_not_wait_is_told_again_with_its_confirmation() {
        let mut open = OpenConnections::new(1 << 20);
        for (seq, uid) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
            note(&mut open, seq, &opened(uid), b"hello");
        }
        let confirm = Event::Confirm(Confirm {
            conn_uid: ConnUid(2),
            confirmed: Confirmed::Followed,
        });
        note(&mut open, 4, &confirm, b"confirm");
        note(&mut open, 5, &closed(1, CloseReason::Fin), b"");
        note(&mut open, 6, &closed(3, CloseReason::Idle), b"");
        let told = open.to_announce(|_| 3);
        let told: Vec<_> = told
            .iter()
            .map(|(_, hello, confirm)| (hello.len(), confirm.is_some()))
            .collect();
        assert_eq!(told, [(5, true), (5, false)]);
    }

    #[test]
    fn over_the_budget_the_oldest_goes() {
        let mut open = OpenConnections::new(3 * ENTRY_BYTES);
        for uid in 0..5 {
            note(&mut open, 0, &opened(uid), b"");
        }
        assert_eq!((open.len(), open.evicted), (3, 2));
        assert!(open.bytes() <= 3 * ENTRY_BYTES);
    }
}
