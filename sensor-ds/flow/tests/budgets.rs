//! Floods: memory stays within the budgets, and what is let go is counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::Ipv4Addr;

use common::{ACK, Rig, Talk, hello, words};
use sensor_flow::{FlowSettings, Loss};

/// A different client for each number.
fn talk(n: u32) -> Talk {
    let mut talk = Talk::new(u16::try_from(1024 + n % 60_000).unwrap());
    talk.client.0 = Ipv4Addr::from_bits(0x0b00_0000 + n / 60_000);
    talk
}

#[test]
fn a_flood_of_syns_evicts_syns_and_spares_proven_connections() {
    let settings = FlowSettings {
        n_opening_max: 1000,
        ..FlowSettings::default()
    };
    let mut rig = Rig::new(settings);
    let mut real = Talk::new(40_000);
    rig.feed_all(&real.handshake());
    for n in 0..5000 {
        rig.feed(&talk(n).syn());
        assert!(rig.table.n_opening() <= 1000);
    }
    assert_eq!(rig.table.counters().lost(Loss::OpeningEvicted), 4001);
    assert_eq!(words(&rig.feed(&real.client(ACK, &hello(1)))), ["hello0"]);
}

#[test]
fn a_flood_of_half_hellos_stays_within_its_budget() {
    let settings = FlowSettings {
        reassembly_bytes_max: 100_000,
        ..FlowSettings::default()
    };
    let mut rig = Rig::new(settings);
    let mut real = Talk::new(40_000);
    rig.feed_all(&real.handshake());
    let pieces = real.client_pieces(&hello(1), &[200]);
    rig.feed(&pieces[0]);
    for n in 0..3000 {
        let mut forged = talk(n);
        rig.feed(&forged.syn());
        rig.feed(&forged.client_pieces(&hello(2), &[150, 1000])[0]);
        assert!(
            rig.table.reassembly_bytes() <= 100_000,
            "{}",
            rig.table.reassembly_bytes()
        );
    }
    assert!(rig.table.counters().lost(Loss::ReassemblyEvicted) > 1000);
    assert_eq!(
        words(&rig.feed(&pieces[1])),
        ["hello0"],
        "a proven connection outlives forged ones"
    );
}

#[test]
fn more_connections_than_the_budget_are_reported_as_evicted() {
    let settings = FlowSettings {
        n_tracked_max: 1000,
        ..FlowSettings::default()
    };
    let mut rig = Rig::new(settings);
    let mut n_evicted = 0;
    for n in 0..3000 {
        let events = rig.connect(&mut talk(n));
        n_evicted += words(&events)
            .iter()
            .filter(|word| word.starts_with("evicted"))
            .count();
        assert!(rig.table.n_tracked() <= 1000);
    }
    assert_eq!(n_evicted, 2000);
    assert_eq!(rig.table.counters().lost(Loss::TrackedEvicted), 2000);
}

#[test]
fn one_key_cannot_fill_the_table() {
    let mut rig = Rig::new(FlowSettings::default());
    for n in 0..1000 {
        let mut forged = Talk::new(40_000);
        forged.client_next = n * 1000;
        rig.feed(&forged.syn());
    }
    assert!(rig.table.n_opening() <= 4);
}

#[test]
fn a_flood_of_lone_hellos_spares_confirmed_connections() {
    let settings = FlowSettings {
        n_opening_max: 100,
        n_tracked_max: 1000,
        ..FlowSettings::default()
    };
    let mut rig = Rig::new(settings);
    let mut real: Vec<Talk> = (0..300).map(talk).collect();
    for talk in &mut real {
        rig.connect(talk);
    }
    let mut evicted = 0;
    for n in 1000..6000 {
        let events = rig.feed(&talk(n).client(ACK, &hello(3)));
        // Connection numbers from 0: the real ones came first.
        evicted += events
            .iter()
            .filter(|event| matches!(event, sensor_flow::FlowEvent::Close { conn, .. } if conn.0 < 300))
            .count();
    }
    assert_eq!(rig.table.n_tracked(), 1000);
    assert!(evicted <= 3, "{evicted} of 300 real connections were driven out");
}
