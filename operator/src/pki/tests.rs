//! Plans over years, rotations that are killed anywhere, and who believes whom meanwhile.

use std::collections::HashMap;

use super::*;

const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-01-01.
const BEGIN: u64 = 1_767_225_600;

fn needs() -> Needs {
    Needs {
        namespace: "shop".to_owned(),
        pipeline: "main".to_owned(),
        parts: Part::ALL.into(),
        rotate: None,
        times: Times::default(),
    }
}

/// Random numbers from a seed (xorshift64*), and a source for plans.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = u8::try_from(self.below(256)).unwrap();
        }
    }
}

fn plan_at(existing: &Existing, needs: &Needs, now: u64) -> Plan {
    let mut dice = Dice(now | 1);
    plan(existing, needs, at(now), &mut |bytes: &mut [u8]| {
        dice.fill(bytes);
        Ok(())
    })
    .unwrap()
}

/// Writes as server-side apply does: what others have added stays, what was ours and is not any more goes.
fn apply(existing: &mut Existing, write: &SecretWrite) {
    existing.insert(write.part, write.content.clone());
}

fn apply_all(existing: &mut Existing, needs: &Needs, now: u64) -> Plan {
    let plan = plan_at(existing, needs, now);
    for write in &plan.writes {
        apply(existing, write);
    }
    plan
}

fn made(needs: &Needs, now: u64) -> Existing {
    let mut existing = Existing::new();
    apply_all(&mut existing, needs, now);
    existing
}

fn written(plan: &Plan) -> Vec<Part> {
    plan.writes.iter().map(|write| write.part).collect()
}

fn whys(plan: &Plan) -> Vec<(Part, &'static str)> {
    plan.writes.iter().map(|write| (write.part, write.why)).collect()
}

const LEAVES: [Part; 5] = [
    Part::CorrelatorTls,
    Part::StoreTls,
    Part::IngestTls,
    Part::ForwardTls,
    Part::OperatorTls,
];

#[test]
fn everything_is_made_once_and_trust_before_leaves() {
    let plan = plan_at(&Existing::new(), &needs(), BEGIN);
    assert_eq!(written(&plan), Part::ALL);
    assert_eq!(plan.earliest_expiry, Some(at(BEGIN + 90 * DAY)));
    assert_eq!((plan.rotation, plan.faults), (None, Vec::new()));
    assert!(plan.next_check <= Duration::from_hours(24) && plan.next_check > Duration::from_hours(1));
    let second = plan_at(&plan.after, &needs(), BEGIN);
    assert_eq!(written(&second), []);
    assert_eq!(second.after, plan.after);
}

#[test]
fn only_what_is_needed_is_made() {
    let mut needs = needs();
    needs.parts = [Part::RedactionKey].into();
    let plan = plan_at(&Existing::new(), &needs, BEGIN);
    assert_eq!(written(&plan), [Part::RedactionKey]);
    assert_eq!(plan.earliest_expiry, None);
    needs.parts = Part::CERTIFICATES.into();
    assert_eq!(
        written(&plan_at(&Existing::new(), &needs, BEGIN)),
        Part::CERTIFICATES
    );
}

#[test]
fn certificates_say_names_and_uses() {
    let existing = made(&needs(), BEGIN);
    let names = |part: Part| {
        let der = certificate_of(existing[&part].data.get(CERTIFICATE)).unwrap();
        let parsed = parse(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let mut names: Vec<String> = names
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(Part::CorrelatorTls),
        [
            "main-correlator",
            "main-correlator.shop",
            "main-correlator.shop.svc",
            "main-correlator.shop.svc.cluster.local"
        ]
    );
    assert_eq!(names(Part::ForwardTls), ["ja4://shop.main/forward/*"]);
    assert_eq!(names(Part::OperatorTls), ["ja4://shop.main/operator"]);
    assert!(names(Part::StoreTls).contains(&"main-store.shop.svc".to_owned()));
    let tokens = &existing[&Part::StoreTokens].data;
    assert_eq!(
        tokens.0.keys().map(String::as_str).collect::<Vec<_>>(),
        ["dashboard", "detector", "migrator", "writer"]
    );
    assert!(
        tokens
            .0
            .values()
            .all(|token| token.len() == 64 && token.iter().all(u8::is_ascii_hexdigit))
    );
    assert_eq!(existing[&Part::RedactionKey].data.get("key").len(), 32);
}

#[test]
fn rustls_believes_every_leaf() {
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};
    let existing = made(&needs(), BEGIN);
    let der = |part: Part| certificate_of(existing[&part].data.get(CERTIFICATE)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(certificate_of(existing[&Part::Trust].data.get(TRUST)).unwrap())
        .unwrap();
    let roots = std::sync::Arc::new(roots);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let servers =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
    let (servers, clients) = (servers.build().unwrap(), clients.build().unwrap());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(BEGIN + 5));
    for (part, name) in [
        (Part::CorrelatorTls, "main-correlator.shop.svc"),
        (Part::StoreTls, "main-store.shop.svc.cluster.local"),
        (Part::IngestTls, "main-correlator.shop.svc"),
    ] {
        let name = ServerName::try_from(name).unwrap();
        servers
            .verify_server_cert(&der(part), &[], &name, &[], now)
            .unwrap();
        assert!(
            clients.verify_client_cert(&der(part), &[], now).is_err(),
            "a server is no client"
        );
    }
    for part in [Part::ForwardTls, Part::OperatorTls] {
        clients.verify_client_cert(&der(part), &[], now).unwrap();
    }
}

#[test]
fn prop_a_second_plan_writes_nothing_at_any_time() {
    for seed in 1..=6 {
        let mut dice = Dice(seed);
        let (mut existing, mut needs, mut now) = (Existing::new(), needs(), BEGIN);
        while now < BEGIN + 8 * 365 * DAY {
            let first = apply_all(&mut existing, &needs, now);
            let second = plan_at(&existing, &needs, now);
            assert_eq!(
                whys(&second),
                [],
                "seed {seed} at {now}, after {:?}",
                whys(&first)
            );
            assert_eq!(second.rotation, first.rotation);
            assert_eq!(second.after, existing);
            assert!(first.earliest_expiry.unwrap() > at(now));
            // Minutes in the middle of a rotation, weeks at rest.
            let most = if first.rotation.is_some() { 600 } else { 40 * DAY };
            now += dice.below(most);
            if dice.below(20) == 0 {
                needs.rotate = Some(now.to_string());
            }
        }
    }
}

#[test]
fn all_but_the_keys_is_determined() {
    let existing = made(&needs(), BEGIN);
    let mut needs = needs();
    needs.rotate = Some("1".to_owned());
    for (existing, now) in [(Existing::new(), BEGIN), (existing.clone(), BEGIN + 61 * DAY)] {
        let (one, other) = (plan_at(&existing, &needs, now), plan_at(&existing, &needs, now));
        assert_eq!(whys(&one), whys(&other));
        assert_eq!(
            (one.earliest_expiry, one.rotation, one.next_check),
            (other.earliest_expiry, other.rotation, other.next_check)
        );
        let serials = |plan: &Plan| -> Vec<Vec<u8>> {
            let leaves = plan.after.iter().filter(|(part, _)| part.is_leaf());
            leaves
                .map(|(_, stored)| {
                    let der = certificate_of(stored.data.get(CERTIFICATE)).unwrap();
                    parse(&der).unwrap().raw_serial().to_vec()
                })
                .collect()
        };
        assert_eq!(serials(&one), serials(&other));
        assert_eq!(one.after[&Part::StoreTokens], other.after[&Part::StoreTokens]);
    }
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_of_its_life_and_nothing_else_with_it() {
    let existing = made(&needs(), BEGIN);
    let before = plan_at(&existing, &needs(), BEGIN + 59 * DAY);
    assert_eq!(written(&before), []);
    let after = plan_at(&existing, &needs(), BEGIN + 60 * DAY);
    assert_eq!(written(&after), LEAVES);
    assert_eq!(after.writes[0].why, "has a certificate at two thirds of its life");
    assert_eq!(after.earliest_expiry, Some(at(BEGIN + 150 * DAY)));
    assert_eq!(after.after[&Part::Ca], existing[&Part::Ca]);
}

#[test]
fn the_next_look_comes_before_anything_is_due() {
    let (mut existing, needs) = (made(&needs(), BEGIN), needs());
    let mut now = BEGIN;
    let mut n_looks = 0;
    while now < BEGIN + 100 * DAY {
        let plan = apply_all(&mut existing, &needs, now);
        assert!(plan.next_check >= Duration::from_secs(1));
        now += plan.next_check.as_secs();
        n_looks += 1;
    }
    assert!((100..110).contains(&n_looks), "{n_looks}");
}

#[test]
fn other_names_make_new_leaves_and_keep_tokens() {
    let existing = made(&needs(), BEGIN);
    let mut renamed = needs();
    renamed.namespace = "store".to_owned();
    let plan = plan_at(&existing, &renamed, BEGIN + 5);
    assert_eq!(written(&plan), LEAVES);
    assert_eq!(plan.writes[0].why, "has a certificate for other names");
}

#[track_caller]
fn heals(damage: impl Fn(&mut Existing), expected: &[Part]) {
    let mut existing = made(&needs(), BEGIN);
    damage(&mut existing);
    let plan = apply_all(&mut existing, &needs(), BEGIN + 5);
    assert_eq!(written(&plan), expected);
    assert_eq!(written(&plan_at(&existing, &needs(), BEGIN + 6)), []);
}

#[test]
fn what_is_missing_or_cannot_be_read_is_made_again() {
    let set = |part: Part, key: &'static str, value: &'static [u8]| {
        move |existing: &mut Existing| {
            existing
                .get_mut(&part)
                .unwrap()
                .data
                .0
                .insert(key.to_owned(), value.to_vec());
        }
    };
    for part in LEAVES {
        heals(|existing| drop(existing.remove(&part)), &[part]);
        heals(set(part, CERTIFICATE, b"nonsense"), &[part]);
        heals(set(part, KEY, b""), &[part]);
        heals(set(part, TRUST, b"-----BEGIN"), &[part]);
    }
    heals(set(Part::Trust, TRUST, b""), &[Part::Trust]);
    heals(set(Part::StoreTokens, "writer", b"short"), &[Part::StoreTokens]);
    // Without its authority nothing can be believed any more.
    let all: Vec<Part> = [&[Part::Ca, Part::Trust][..], &LEAVES].concat();
    heals(set(Part::Ca, KEY, b"nonsense"), &all);
    heals(set(Part::Ca, CERTIFICATE, &[0xff]), &all);
    heals(|existing| drop(existing.remove(&Part::Ca)), &all);
    // The key of another certificate.
    heals(
        |existing| {
            let other = existing[&Part::OperatorTls].data.get(KEY).to_vec();
            existing
                .get_mut(&Part::ForwardTls)
                .unwrap()
                .data
                .0
                .insert(KEY.to_owned(), other);
        },
        &[Part::ForwardTls],
    );
    // A client's certificate cannot be taken for a server's.
    heals(
        |existing| {
            let other = existing[&Part::OperatorTls].clone();
            existing.insert(Part::CorrelatorTls, other);
        },
        &[Part::CorrelatorTls],
    );
}

#[test]
fn what_others_add_to_a_secret_changes_nothing() {
    let mut existing = made(&needs(), BEGIN);
    for stored in existing.values_mut() {
        stored.data.0.insert("note".to_owned(), b"x".to_vec());
        stored.annotations.insert("team".to_owned(), "soc".to_owned());
    }
    assert_eq!(written(&plan_at(&existing, &needs(), BEGIN + 5)), []);
}

#[test]
fn tokens_and_the_redaction_key_are_made_once() {
    let mut existing = made(&needs(), BEGIN);
    let (tokens, key) = (
        existing[&Part::StoreTokens].clone(),
        existing[&Part::RedactionKey].clone(),
    );
    let mut now = BEGIN;
    while now < BEGIN + 4 * 365 * DAY {
        apply_all(&mut existing, &needs(), now);
        now += 20 * DAY;
    }
    assert_eq!(
        (&existing[&Part::StoreTokens], &existing[&Part::RedactionKey]),
        (&tokens, &key)
    );
    // One that is lost is made again, the others stay.
    existing
        .get_mut(&Part::StoreTokens)
        .unwrap()
        .data
        .0
        .remove("detector");
    apply_all(&mut existing, &needs(), now);
    let data = &existing[&Part::StoreTokens].data;
    assert_eq!(data.get("writer"), tokens.data.get("writer"));
    assert!(is_token(data.get("detector")) && data.get("detector") != tokens.data.get("detector"));
}

#[test]
fn a_redaction_key_of_the_wrong_length_is_said_and_not_replaced() {
    let mut existing = made(&needs(), BEGIN);
    let stored = existing.get_mut(&Part::RedactionKey).unwrap();
    stored.data.0.insert("key".to_owned(), b"somebody's".to_vec());
    let plan = plan_at(&existing, &needs(), BEGIN + 5);
    assert_eq!(written(&plan), []);
    assert!(
        plan.faults.len() == 1 && plan.faults[0].contains("main-redaction-key"),
        "{:?}",
        plan.faults
    );
    assert!(!plan.faults[0].contains("somebody's"));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let plan = plan_at(&Existing::new(), &needs(), BEGIN);
    let shown = format!("{plan:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("BEGIN"), "{shown}");
    let token = String::from_utf8(plan.after[&Part::StoreTokens].data.get("writer").to_vec()).unwrap();
    assert!(!shown.contains(&token) && shown.contains("writer"));
}

#[test]
fn a_rotation_goes_through_its_phases_and_no_faster() {
    let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
    let (old, old_leaf) = (existing[&Part::Ca].clone(), existing[&Part::ForwardTls].clone());
    needs.rotate = Some("now".to_owned());
    let mut now = BEGIN + DAY;
    let plan = apply_all(&mut existing, &needs, now);
    assert_eq!(plan.rotation, Some(Phase::TrustBoth));
    assert_eq!(written(&plan), [&[Part::Ca, Part::Trust][..], &LEAVES].concat());
    let both = existing[&Part::Trust].data.get(TRUST).to_vec();
    assert_eq!(both.windows(5).filter(|window| *window == b"BEGIN").count(), 2);
    assert_eq!(
        existing[&Part::ForwardTls].data.get(CERTIFICATE),
        old_leaf.data.get(CERTIFICATE)
    );
    assert_eq!(existing[&Part::Ca].annotations[ROTATION_PHASE], "TrustBoth");
    assert_eq!(plan.next_check, Duration::from_mins(3));
    assert_eq!(written(&apply_all(&mut existing, &needs, now + 179)), []);

    now += 180;
    let plan = apply_all(&mut existing, &needs, now);
    assert_eq!(plan.rotation, Some(Phase::IssueNew));
    assert_eq!(
        written(&plan),
        [&[Part::Ca][..], &LEAVES].concat(),
        "the bundle stays"
    );
    assert_eq!(existing[&Part::Trust].data.get(TRUST), both);
    assert_eq!(
        existing[&Part::Ca].data.get(PREVIOUS_CERTIFICATE),
        old.data.get(CERTIFICATE)
    );
    assert!(!existing[&Part::Ca].data.0.contains_key(NEXT_KEY));
    assert_eq!(plan.next_check, Duration::from_mins(14));
    assert_eq!(written(&apply_all(&mut existing, &needs, now + 14 * 60 - 1)), []);

    now += 14 * 60;
    let plan = apply_all(&mut existing, &needs, now);
    assert_eq!(plan.rotation, None);
    assert_eq!(written(&plan), [&[Part::Ca, Part::Trust][..], &LEAVES].concat());
    let trust = existing[&Part::Trust].data.get(TRUST);
    assert_eq!(trust, existing[&Part::Ca].data.get(CERTIFICATE));
    assert_ne!(
        existing[&Part::Ca].data.get(CERTIFICATE),
        old.data.get(CERTIFICATE)
    );
    assert_eq!(
        existing[&Part::Ca].annotations.keys().collect::<Vec<_>>(),
        [ROTATED]
    );
    // Once for each value.
    assert_eq!(apply_all(&mut existing, &needs, now + DAY).rotation, None);
    needs.rotate = None;
    assert_eq!(apply_all(&mut existing, &needs, now + DAY).rotation, None);
    needs.rotate = Some("again".to_owned());
    assert_eq!(
        apply_all(&mut existing, &needs, now + DAY).rotation,
        Some(Phase::TrustBoth)
    );
}

#[test]
fn a_value_that_comes_during_a_rotation_starts_the_next_at_its_end() {
    let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
    needs.rotate = Some("one".to_owned());
    apply_all(&mut existing, &needs, BEGIN + DAY);
    needs.rotate = Some("two".to_owned());
    assert_eq!(
        apply_all(&mut existing, &needs, BEGIN + DAY + 180).rotation,
        Some(Phase::IssueNew)
    );
    let new = existing[&Part::Ca].clone();
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 180 + 14 * 60);
    assert_eq!(plan.rotation, Some(Phase::TrustBoth));
    assert_eq!(
        existing[&Part::Ca].data.get(CERTIFICATE),
        new.data.get(CERTIFICATE)
    );
    let trust = existing[&Part::Trust].data.get(TRUST);
    assert!(
        trust.starts_with(new.data.get(CERTIFICATE).trim_ascii()),
        "the first one is believed no more"
    );
}

#[test]
fn a_value_that_was_there_from_the_beginning_starts_no_rotation() {
    let mut needs = needs();
    needs.rotate = Some("x".to_owned());
    let mut existing = made(&needs, BEGIN);
    assert_eq!(apply_all(&mut existing, &needs, BEGIN + 5).rotation, None);
}

#[test]
fn an_authority_at_two_thirds_of_its_life_is_replaced_in_phases() {
    let (mut existing, needs) = (made(&needs(), BEGIN), needs());
    let due = BEGIN + 2 * 365 * DAY;
    assert_eq!(apply_all(&mut existing, &needs, due - DAY).rotation, None);
    assert_eq!(
        apply_all(&mut existing, &needs, due).rotation,
        Some(Phase::TrustBoth)
    );
}

#[test]
fn an_authority_that_has_expired_is_replaced_at_once() {
    let (mut existing, needs) = (made(&needs(), BEGIN), needs());
    let plan = apply_all(&mut existing, &needs, BEGIN + 3 * 365 * DAY);
    assert_eq!(plan.rotation, None);
    assert_eq!(plan.writes[0].why, "holds an authority that has expired");
    assert_eq!(written(&plan).len(), 2 + LEAVES.len());
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_a_rotation() {
    let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
    needs.rotate = Some("x".to_owned());
    apply_all(&mut existing, &needs, BEGIN + 30 * DAY);
    apply_all(&mut existing, &needs, BEGIN + DAY);
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 180);
    assert_eq!(plan.rotation, Some(Phase::IssueNew));
}

#[test]
fn a_phase_begins_anew_when_something_was_written_late() {
    let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
    needs.rotate = Some("x".to_owned());
    let begun = plan_at(&existing, &needs, BEGIN + DAY);
    // Killed after the first write, and back an hour later.
    apply(&mut existing, &begun.writes[0]);
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 3600);
    assert_eq!(plan.rotation, Some(Phase::TrustBoth));
    assert_eq!(
        written(&plan).first(),
        Some(&Part::Ca),
        "stamped before the others are written"
    );
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 3600 + 179);
    assert_eq!((plan.rotation, written(&plan)), (Some(Phase::TrustBoth), vec![]));
}

#[test]
fn a_lost_annotation_or_next_authority_does_no_harm() {
    let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
    needs.rotate = Some("x".to_owned());
    apply_all(&mut existing, &needs, BEGIN + DAY);
    existing.get_mut(&Part::Ca).unwrap().annotations.clear();
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 600);
    assert_eq!(
        (plan.rotation, written(&plan)),
        (Some(Phase::TrustBoth), vec![Part::Ca])
    );
    let data = &mut existing.get_mut(&Part::Ca).unwrap().data.0;
    data.insert(NEXT_KEY.to_owned(), b"nonsense".to_vec());
    let plan = apply_all(&mut existing, &needs, BEGIN + DAY + 700);
    assert!(plan.writes.len() > 1);
    assert_eq!(written(&plan_at(&existing, &needs, BEGIN + DAY + 700)), []);
}

/// What each Secret was, and since when.
type History = BTreeMap<Part, Vec<(u64, Stored)>>;

/// A Secret as a pod sees it that is `lag` seconds late.
fn seen(history: &History, part: Part, now: u64, lag: u64) -> &Stored {
    let versions = &history[&part];
    let before = versions.iter().rev().find(|(since, _)| since + lag <= now);
    &before.unwrap_or(&versions[0]).1
}

/// Who signed whom, remembered: it is asked often.
#[derive(Default)]
struct Belief(HashMap<(Vec<u8>, Vec<u8>), bool>);

impl Belief {
    fn believes(&mut self, bundle: &[u8], certificate: &[u8]) -> bool {
        let key = (bundle.to_vec(), certificate.to_vec());
        *self.0.entry(key).or_insert_with(|| {
            let own = certificate_of(certificate).unwrap();
            let own = parse(&own).unwrap();
            CertificateDer::pem_slice_iter(bundle).any(|issuer| {
                let issuer = issuer.unwrap();
                own.verify_signature(Some(parse(&issuer).unwrap().public_key()))
                    .is_ok()
            })
        })
    }
}

/// Everybody can talk to everybody at this moment, however late each is within the bound.
#[track_caller]
fn all_believe(history: &History, now: u64, belief: &mut Belief) {
    let lags = [0, 70, 125];
    // A connection that was made with the leaf of that time is judged by the bundle of now.
    let old = 11 * 60 + 125;
    for one in lags {
        for other in lags.into_iter().chain([old]) {
            for client in [Part::ForwardTls, Part::OperatorTls] {
                let server = seen(history, Part::CorrelatorTls, now, one);
                let client = seen(history, client, now, other);
                assert!(
                    belief.believes(server.data.get(TRUST), client.data.get(CERTIFICATE)),
                    "the correlator refuses a client at {now}, {one} and {other} s late"
                );
            }
        }
        for other in lags {
            for (server, client) in [
                (Part::CorrelatorTls, Part::ForwardTls),
                (Part::CorrelatorTls, Part::OperatorTls),
                (Part::StoreTls, Part::Trust),
            ] {
                let server = seen(history, server, now, one);
                let client = seen(history, client, now, other);
                assert!(
                    belief.believes(client.data.get(TRUST), server.data.get(CERTIFICATE)),
                    "a server is refused at {now}, {one} and {other} s late"
                );
            }
        }
    }
}

#[test]
fn prop_everybody_believes_everybody_through_a_rotation_that_is_killed_anywhere() {
    let mut belief = Belief::default();
    for seed in 1..=30 {
        let mut dice = Dice(seed * 77);
        let (mut existing, mut needs) = (made(&needs(), BEGIN), needs());
        let mut history: History = existing
            .iter()
            .map(|(part, stored)| (*part, vec![(BEGIN, stored.clone())]))
            .collect();
        needs.rotate = Some("x".to_owned());
        let old = existing[&Part::Ca].data.get(CERTIFICATE).to_vec();
        let mut now = BEGIN + DAY;
        let mut down_until = 0;
        loop {
            if now >= down_until {
                let plan = plan_at(&existing, &needs, now);
                let is_done = plan.rotation.is_none() && plan.writes.is_empty();
                // Three of four passes are killed before one of their writes, and the operator is away for a while.
                let n = if dice.below(4) == 0 {
                    plan.writes.len()
                } else {
                    usize::try_from(dice.below(1 + plan.writes.len() as u64)).unwrap()
                };
                for write in &plan.writes[..n] {
                    apply(&mut existing, write);
                    history
                        .get_mut(&write.part)
                        .unwrap()
                        .push((now, write.content.clone()));
                }
                if n < plan.writes.len() {
                    down_until = now + [1, 30, 400, 3600][usize::try_from(dice.below(4)).unwrap()];
                }
                if is_done && existing[&Part::Ca].data.get(CERTIFICATE) != old {
                    break;
                }
            }
            all_believe(&history, now, &mut belief);
            now += 10;
            assert!(now < BEGIN + 3 * DAY, "seed {seed} comes to no end");
        }
        // The old one is believed by nobody.
        for part in [Part::Trust, Part::CorrelatorTls, Part::ForwardTls] {
            assert_eq!(
                existing[&part].data.get(TRUST),
                existing[&Part::Ca].data.get(CERTIFICATE)
            );
        }
    }
}
