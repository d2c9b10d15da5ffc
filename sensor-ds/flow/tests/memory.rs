//! All budgets of the defaults spent at once, by millions of connections: what the process really holds. The
//! only test of its process, as it reads the process's memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its tally"
)]

mod common;

use common::{ACK, Rig, SYN, Segment, Talk, hello, words};
use sensor_flow::{FlowEvent, FlowSettings, Loss};

/// Connections up to their confirmed hello: a third more than are followed.
const N_CONFIRMED: u32 = 600_000;

/// Connections that stay half open.
const N_HALF_OPEN: u32 = 1_000_000;

/// What the whole process may hold, beside the ring of a live capture and 8 MiB of events on their way.
const ANON_BYTES_MAX: u64 = 40 << 20;

/// Frames of one conversation that are sent again and again, each time from another client.
struct Template(Vec<(Vec<u8>, usize)>);

impl Template {
    fn new(segments: &[Segment]) -> Self {
        // The client's address and port stand first or second in the headers of IPv4 and TCP.
        let frame = |segment: &Segment| (segment.frame(), usize::from(segment.src.1 == 443));
        Self(segments.iter().map(frame).collect())
    }

    /// The frames with client number `n`.
    fn feed(&mut self, rig: &mut Rig, n: u32, mut take: impl FnMut(FlowEvent)) {
        let port = u16::try_from(1024 + n % 60_000).unwrap();
        let address = 0x0b00_0000 + n / 60_000;
        for (frame, second) in &mut self.0 {
            frame[26 + 4 * *second..][..4].copy_from_slice(&address.to_be_bytes());
            frame[34 + 2 * *second..][..2].copy_from_slice(&port.to_be_bytes());
            rig.feed_bytes(frame).into_iter().for_each(&mut take);
        }
    }
}

fn anon_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[test]
fn millions_of_connections_stay_within_the_budgets() {
    let mut rig = Rig::new(FlowSettings::default());
    let mut talk = Talk::new(1);
    let mut segments = talk.handshake();
    segments.push(talk.client(ACK, &hello(7)));
    segments.push(talk.server(ACK, &[22, 3, 3, 0, 1, 2]));
    segments.push(talk.client(ACK, &[20, 3, 3, 0, 1, 1, 23, 3, 3]));
    let mut confirmed = Template::new(&segments);
    let before = anon_bytes();
    let mut n_evicted = 0;
    for n in 0..N_CONFIRMED {
        confirmed.feed(&mut rig, n, |event| {
            n_evicted += usize::from(matches!(event, FlowEvent::Close { .. }));
        });
    }
    let n_tracked = rig.table.n_tracked();
    assert_eq!(
        (n_tracked, n_evicted),
        (7 * 64 * 1024, N_CONFIRMED as usize - n_tracked)
    );
    let tracked_bytes = anon_bytes() - before;
    println!(
        "{n_tracked} followed connections: {} bytes each",
        tracked_bytes / n_tracked as u64
    );
    assert!(tracked_bytes < 33 * n_tracked as u64, "{tracked_bytes} bytes");

    let mut real = Talk::new(1000);
    rig.feed_all(&real.handshake());
    // SYNs alone; starts of hellos after a SYN, or out of nowhere, in pieces with gaps.
    let mut talk = Talk::new(1);
    let syn = talk.client(SYN, &[]);
    let pieces = talk.client_pieces(&hello(1), &[100, 20, 100, 20]);
    let pieces = [pieces[0].clone(), pieces[2].clone()];
    let mut kinds = [
        Template::new(std::slice::from_ref(&syn)),
        Template::new(&[&[syn][..], &pieces].concat()),
        Template::new(&pieces),
    ];
    let mut anon_max = 0;
    for n in 0..N_HALF_OPEN {
        kinds[n as usize % 3].feed(&mut rig, N_CONFIRMED + n, |event| panic!("{event:?}"));
        assert!(rig.table.reassembly_bytes() <= FlowSettings::default().reassembly_bytes_max);
        if n % 50_000 == 0 {
            anon_max = anon_max.max(anon_bytes());
        }
    }
    anon_max = anon_max.max(anon_bytes());
    let counters = rig.table.counters();
    println!(
        "anonymous memory at most {anon_max} bytes; opening {}, reassembly {} bytes; evicted: {} opening, {} reassembly",
        rig.table.n_opening(),
        rig.table.reassembly_bytes(),
        counters.lost(Loss::OpeningEvicted),
        counters.lost(Loss::ReassemblyEvicted)
    );
    assert!(anon_max < ANON_BYTES_MAX, "{anon_max} bytes");
    let lost = Loss::ALL.iter().filter(|reason| reason.ends_connection());
    let lost: u64 = lost.map(|reason| counters.lost(*reason)).sum();
    assert_eq!(
        counters.opened,
        counters.reported + lost + rig.table.n_unreported() as u64
    );
    assert!(counters.lost(Loss::OpeningEvicted) + counters.lost(Loss::ReassemblyEvicted) > 900_000);
    // Who had proved to be real is still there.
    let events = rig.feed(&real.client(ACK, &hello(9)));
    assert_eq!(words(&events), ["hello0"]);
}
