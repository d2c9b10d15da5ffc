//! All budgets of the defaults spent at once, by millions of connections: what the process really holds. The
//! only test of its process, as it reads the process's memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its tally"
)]

mod common;

use std::net::Ipv4Addr;

use common::{ACK, Rig, Talk, hello, words};
use sensor_flow::{FlowSettings, Loss};

/// Half-open connections of each kind.
const N_FLOWS: u32 = 1_000_000;

/// What the whole process may hold, beside the ring of a live capture and 8 MiB of events on their way.
const ANON_BYTES_MAX: u64 = 40 << 20;

fn talk(n: u32) -> Talk {
    let mut talk = Talk::new(u16::try_from(1024 + n % 60_000).unwrap());
    talk.client.0 = Ipv4Addr::from_bits(0x0b00_0000 + n / 60_000);
    talk
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
    let before = anon_bytes();
    let mut n_evicted = 0;
    // Followed connections, a third more than there is room for.
    for n in 0..600_000 {
        let events = rig.connect(&mut talk(n));
        n_evicted += words(&events)
            .iter()
            .filter(|word| word.starts_with("evicted"))
            .count();
        // So that they do not all have one age.
        rig.now += 1_000;
    }
    assert_eq!(rig.table.n_tracked(), 7 * 64 * 1024);
    assert_eq!(n_evicted, 600_000 - rig.table.n_tracked());
    let tracked_bytes = anon_bytes() - before;
    assert!(
        tracked_bytes < 33 * rig.table.n_tracked() as u64,
        "{tracked_bytes} bytes"
    );
    println!(
        "{} followed connections: {} bytes each",
        rig.table.n_tracked(),
        tracked_bytes / rig.table.n_tracked() as u64
    );
    let mut anon_max = 0;
    let mut real = Talk::new(1000);
    rig.feed_all(&real.handshake());
    for n in 0..N_FLOWS {
        // SYNs alone; starts of hellos after a SYN, or out of nowhere, in pieces with gaps.
        let mut forged = talk(n + 1_000_000);
        if n % 4 != 3 {
            rig.feed(&forged.syn());
        }
        if n % 2 == 1 {
            let pieces = forged.client_pieces(&hello(1), &[100, 20, 100, 20]);
            rig.feed(&pieces[0]);
            rig.feed(&pieces[2]);
        }
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
    // Who had proved to be real is still there.
    let events = rig.feed(&real.client(ACK, &hello(9)));
    assert_eq!(words(&events), ["hello0"]);
}
