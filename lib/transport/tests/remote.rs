//! The hop from a node, on real connections with real certificates: who may speak, what is acknowledged, what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::pki::{Authority, credentials, replace};
use common::{DEADLINE, NODE, assert_balanced, collect_log, dropped, event, log_of, refused, wait_for};
use ja4_model::envelope::{Envelope, Key};
use ja4_model::{BootId, EventId, EventKind, Head, IdKind, Pair};
use ja4_transport::remote::proto::{
    Ack, Batch, ClientFrame, ClientFrameKind, Facts, Hello, Leave, Part, Producer, ROLE_HTTP, ROLE_NETWORK,
    ServerFrameKind,
};
use ja4_transport::remote::{
    Admission, CertificateFiles, CredentialFiles, Link, LinkConfig, LinkError, RemoteConfig, TokenSource,
};
use ja4_transport::{DropReason, Input, Receiver, ReceiverConfig, RefuseReason};

/// A receiver with a listener for nodes, its folder and its authority.
struct Site {
    dir: tempfile::TempDir,
    authority: Authority,
    receiver: Receiver,
    address: SocketAddr,
}

impl Site {
    fn start(change: impl FnOnce(&mut RemoteConfig)) -> Self {
        collect_log();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("first");
        Authority::write_bundle(&[&authority], &dir.path().join("trust.pem"));
        let tls = authority.issue("", &dir.path().join("server"));
        let admission = Admission::Certificates {
            client_trust: dir.path().join("trust.pem"),
            pipeline: "shop".to_owned(),
        };
        let mut remote = RemoteConfig::new(([127, 0, 0, 1], 0).into(), tls, admission);
        remote.reload_interval = Duration::from_millis(20);
        remote.boot = 77;
        change(&mut remote);
        let mut config = ReceiverConfig::new("correlator", Vec::new(), Arc::new(|_, _, boot| boot.0 & 0xff));
        config.remotes.push(remote);
        let receiver = Receiver::start(config).unwrap();
        let address = receiver.remote_addresses()[0];
        Self {
            dir,
            authority,
            receiver,
            address,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn files(&self, uri: &str) -> CredentialFiles {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let own = self.authority.issue(uri, &self.path(&format!("peer{n}")));
        credentials(&self.path("trust.pem"), Some(own))
    }

    fn node(&self) -> CredentialFiles {
        self.files(&format!("ja4://shop/forward/{NODE}"))
    }

    fn log(&self) -> Vec<String> {
        log_of(Path::new(&format!("listener {}", self.address)))
    }

    /// A good node is served: what the tests of hostile peers end with.
    #[track_caller]
    fn serves(&self) {
        runtime().block_on(self.serves_now());
    }

    async fn serves_now(&self) {
        let boot = (ja4_emit::random_boot().unwrap().0 & 0xffff_ffff) << 16;
        let mut node = Node::greeted(self.address, &self.node()).await;
        node.produces(0, "sensor", boot, ROLE_NETWORK).await;
        node.events(0, boot, 0..10).await;
        // What others have sent may come before.
        wait_for("a good node is served", || {
            take(&self.receiver, 1).contains(&(boot, 9)).then_some(())
        });
        assert_eq!(node.settled(0, 10).await, 10);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn link_config(address: SocketAddr) -> LinkConfig {
    LinkConfig {
        address: address.to_string(),
        server_name: Some("localhost".to_owned()),
        connect_timeout: DEADLINE,
    }
}

/// A node that sends what it is told to.
struct Node {
    link: Link,
    settled: std::collections::BTreeMap<u32, u64>,
    batches: u64,
}

impl Node {
    async fn open(address: SocketAddr, files: &CredentialFiles) -> Result<Self, LinkError> {
        Ok(Self {
            link: Link::open(&link_config(address), &files.load().unwrap()).await?,
            settled: std::collections::BTreeMap::new(),
            batches: 0,
        })
    }

    async fn greeted(address: SocketAddr, files: &CredentialFiles) -> Self {
        let mut node = Self::open(address, files).await.unwrap();
        node.greet(NODE).await;
        let welcome = node.link.reply().await.unwrap().unwrap();
        assert!(
            matches!(welcome.frame, Some(ServerFrameKind::Welcome(welcome)) if welcome.boot == 77),
            "the correlator's process"
        );
        node
    }

    async fn greet(&mut self, name: &str) {
        let hello = Hello {
            version: 1,
            node: name.to_owned(),
            software: "test 1".to_owned(),
        };
        self.send(ClientFrameKind::Hello(hello)).await;
    }

    async fn send(&mut self, frame: impl Into<ClientFrame>) {
        // The other side may have ended it: the replies say so.
        let _sent = self.link.frames.send(frame.into()).await;
    }

    async fn produces(&mut self, slot: u32, source: &str, boot: u64, role: u32) {
        let source = source.to_owned();
        let producer = Producer {
            slot,
            source,
            boot,
            role,
        };
        self.send(ClientFrameKind::Producer(producer)).await;
    }

    async fn events(&mut self, slot: u32, boot: u64, seqs: std::ops::Range<u64>) {
        let envelopes = seqs
            .flat_map(|seq| envelope(boot, seq, EventKind::Confirm))
            .collect();
        self.batch(slot, envelopes).await;
    }

    async fn batch(&mut self, slot: u32, envelopes: Vec<u8>) {
        let envelopes = Bytes::from(envelopes);
        let parts = vec![Part { slot, envelopes }];
        self.send(ClientFrameKind::Batch(Batch { parts })).await;
    }

    async fn ack(&mut self) -> Result<(), Option<LinkError>> {
        match self.link.reply().await {
            Ok(Some(frame)) => {
                if let Some(ServerFrameKind::Ack(Ack { settled, batches })) = frame.frame {
                    self.batches = self.batches.max(batches);
                    for one in settled {
                        self.settled.insert(one.slot, one.next);
                    }
                }
                Ok(())
            }
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        }
    }

    /// Waits until so much of a producer is settled.
    async fn settled(&mut self, slot: u32, least: u64) -> u64 {
        while self.settled.get(&slot).is_none_or(|next| *next < least) {
            self.ack().await.unwrap();
        }
        self.settled[&slot]
    }

    /// Waits for the end of the stream; what it was refused with.
    async fn end(&mut self) -> String {
        loop {
            match self.ack().await {
                Ok(()) => {}
                Err(error) => return error.map_or_else(String::new, |error| error.to_string()),
            }
        }
    }
}

fn envelope(boot: u64, seq: u64, kind: EventKind) -> Vec<u8> {
    let id = EventId {
        boot: BootId(boot),
        seq,
    };
    let mut json = Vec::new();
    event(seq).write_json(&Head::new("sensor".into(), NODE.into(), id, 1), &mut json);
    let mut out = Vec::new();
    let key = Key {
        kind,
        id_kind: IdKind::Producer,
        id,
        ts_ns: 1,
        recv_ns: 1,
        pair: Pair::default(),
    };
    Envelope { key, json: &json }.write(&mut out);
    out
}

/// Takes events until there are `n`, and acknowledges them.
#[track_caller]
fn take(receiver: &Receiver, n: usize) -> Vec<(u64, u64)> {
    let mut taken = Vec::new();
    wait_for("the events arrive", || {
        if let Some(Input::Batch(batch)) = receiver.next(Duration::from_millis(20)) {
            for frame in batch.frames() {
                taken.push((frame.id.boot.0, frame.id.seq));
                receiver.ack(batch.peer.origin, frame.id.seq + 1);
            }
        }
        (taken.len() >= n).then_some(())
    });
    taken
}

#[test]
fn events_come_once_and_in_order_and_a_new_stream_goes_on_after_the_last_acknowledgement() {
    let site = Site::start(|_| {});
    let boot = 0x500;
    runtime().block_on(async {
        let mut first = Node::greeted(site.address, &site.node()).await;
        first.produces(3, "sensor", boot, ROLE_NETWORK).await;
        assert_eq!(first.settled(3, 0).await, 0, "nothing of it is settled");
        first.events(3, boot, 0..500).await;
        first.events(3, boot, 500..1000).await;
        let numbers: Vec<u64> = take(&site.receiver, 1000).iter().map(|(_, seq)| *seq).collect();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        assert_eq!(first.settled(3, 1000).await, 1000);
        // It comes again without having left, under another number, and sends more than it must.
        let mut second = Node::greeted(site.address, &site.node()).await;
        second.produces(9, "sensor", boot, ROLE_NETWORK).await;
        assert_eq!(second.settled(9, 0).await, 1000, "the first that is needed");
        assert!(first.end().await.contains("newer stream"));
        second.events(9, boot, 900..1100).await;
        let numbers: Vec<u64> = take(&site.receiver, 100).iter().map(|(_, seq)| *seq).collect();
        assert_eq!(numbers, (1000..1100).collect::<Vec<_>>());
        assert_eq!(second.settled(9, 1100).await, 1100);
        second.send(ClientFrameKind::Leave(Leave { slot: 9 })).await;
        wait_for("it has left", || {
            while site.receiver.next(Duration::ZERO).is_some() {}
            let origins = site.receiver.origins();
            (origins[0].connections == 0).then_some(())
        });
        while second.batches < 1 {
            second.ack().await.unwrap();
        }
    });
    assert_eq!(dropped(&site.receiver, DropReason::Duplicate), 100);
    assert_balanced(&site.receiver);
    let counters = site.receiver.counters();
    assert_eq!(&*counters.identities[0].source, "forward");
}

#[test]
fn marks_of_a_restart_are_told_and_facts_have_an_age() {
    let site = Site::start(|_| {});
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &site.node()).await;
        // What the consumer's marks say: 0x42 of this process.
        node.produces(0, "apache", 0x1_0042, ROLE_HTTP).await;
        assert_eq!(node.settled(0, 1).await, 0x42);
        let json = Bytes::from_static(b"{\"a\":1}");
        node.send(ClientFrameKind::Facts(Facts { json })).await;
        let facts = wait_for("the facts arrive", || {
            site.receiver
                .facts()
                .into_iter()
                .find(|facts| !facts.json.is_empty())
        });
        assert_eq!((facts.node.as_str(), facts.connected), (NODE, true));
        assert!(facts.received.elapsed() < DEADLINE);
        drop(node);
        wait_for("it is known to be gone", || {
            site.receiver
                .facts()
                .iter()
                .all(|facts| !facts.connected)
                .then_some(())
        });
    });
}

#[test]
fn a_consumer_that_takes_nothing_makes_the_node_wait_and_loses_nothing() {
    let site = Site::start(|remote| remote.quotas.queue_bytes = 20_000);
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &site.node()).await;
        node.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
        let sending = tokio::spawn(send_confirms(node.link.frames.clone(), 20_000, 200));
        wait_for("it has to wait", || {
            (site.receiver.counters().identities[0].pauses > 0).then_some(())
        });
        let waiting = site.receiver.counters().identities[0].queue_bytes;
        assert!(waiting < 200_000, "{waiting}");
        let numbers: Vec<u64> = take(&site.receiver, 20_000).iter().map(|(_, seq)| *seq).collect();
        assert!(numbers == (0..20_000).collect::<Vec<_>>());
        sending.await.unwrap();
        assert_eq!(node.settled(0, 20_000).await, 20_000);
    });
    assert_balanced(&site.receiver);
}

#[test]
fn a_node_over_its_rate_waits_and_another_is_served_meanwhile() {
    let site = Site::start(|remote| {
        remote.quotas.events_per_second = 1000;
        remote.quotas.boots_per_hour = 3;
    });
    let noisy = site.files("ja4://shop/forward/noisy");
    runtime().block_on(async {
        let mut node = Node::open(site.address, &noisy).await.unwrap();
        node.greet("noisy").await;
        node.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
        let sending = tokio::spawn(send_confirms(node.link.frames.clone(), 4000, 100));
        let noisy_of = || {
            let identities = site.receiver.counters().identities;
            identities.into_iter().find(|identity| &*identity.node == "noisy")
        };
        wait_for("it has to wait", || {
            while let Some(input) = site.receiver.next(Duration::ZERO) {
                ack_all(&site.receiver, &input);
            }
            (noisy_of()?.pauses > 0).then_some(())
        });
        assert!(noisy_of().unwrap().received < 4000);
        site.serves_now().await;
        // All of it comes in the end: nothing is dropped for a rate.
        wait_for("the rest", || {
            while let Some(input) = site.receiver.next(Duration::from_millis(20)) {
                ack_all(&site.receiver, &input);
            }
            (noisy_of()?.passed == 4000).then_some(())
        });
        sending.await.unwrap();
        assert_eq!(node.settled(0, 4000).await, 4000);
        // More processes than an hour may bring are not let in.
        for slot in 1..6 {
            node.produces(slot, "sensor", 0x1000 + u64::from(slot) * 0x100, ROLE_NETWORK)
                .await;
        }
        assert!(node.end().await.contains("boots"));
    });
    assert_eq!(refused(&site.receiver, RefuseReason::Boots), 1);
    assert_balanced(&site.receiver);
}

/// Sends `n` confirmations of one producer on slot 0, `step` to a batch.
async fn send_confirms(frames: tokio::sync::mpsc::Sender<ClientFrame>, n: u64, step: usize) {
    for start in (0..n).step_by(step) {
        let envelopes: Vec<u8> = (start..start + step as u64)
            .flat_map(|seq| envelope(0x100, seq, EventKind::Confirm))
            .collect();
        let parts = vec![Part {
            slot: 0,
            envelopes: envelopes.into(),
        }];
        frames
            .send(ClientFrameKind::Batch(Batch { parts }).into())
            .await
            .unwrap();
    }
}

fn ack_all(receiver: &Receiver, input: &Input) {
    if let Input::Batch(batch) = input {
        let last = batch.frames().map(|frame| frame.id.seq).max().unwrap();
        receiver.ack(batch.peer.origin, last + 1);
    }
}

#[test]
fn beginnings_that_are_told_again_are_marked_and_take_no_number() {
    let site = Site::start(|_| {});
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &site.node()).await;
        node.produces(0, "sensor", 0x1_0020, ROLE_NETWORK).await;
        assert_eq!(node.settled(0, 1).await, 0x20);
        let mut envelopes = envelope(0x1_0020, 3, EventKind::Open);
        envelopes.extend(envelope(0x1_0020, 4, EventKind::Close));
        let parts = vec![Part {
            slot: 0,
            envelopes: envelopes.into(),
        }];
        node.send(ClientFrameKind::Announce(Batch { parts })).await;
        node.events(0, 0x1_0020, 0x20..0x22).await;
        let mut batches = Vec::new();
        wait_for("both arrive", || {
            if let Some(Input::Batch(batch)) = site.receiver.next(Duration::from_millis(20)) {
                let numbers: Vec<u64> = batch.frames().map(|frame| frame.id.seq).collect();
                batches.push((batch.announced, numbers));
            }
            (batches.len() == 2).then_some(())
        });
        assert_eq!(batches, [(true, vec![3]), (false, vec![0x20, 0x21])]);
    });
    // Only what a connection begins with, and its confirmation.
    assert_eq!(dropped(&site.receiver, DropReason::Role), 1);
    assert_balanced(&site.receiver);
}

#[test]
fn a_node_that_never_reads_is_taken_from_and_costs_nothing() {
    let site = Site::start(|_| {});
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &site.node()).await;
        node.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
        // Its own HTTP/2 gives up after a thousand small frames that nobody takes.
        for start in (0..50_000).step_by(250) {
            node.events(0, 0x100, start..start + 250).await;
            take(&site.receiver, 250);
        }
        site.serves_now().await;
        // Of all acknowledgements the newest is there in the end.
        assert_eq!(node.settled(0, 50_000).await, 50_000);
    });
}

/// What an attempt with these files ends with on its own side; and that a line names it here.
#[track_caller]
fn refuses(site: &Site, files: &CredentialFiles, name: &str, reason: RefuseReason, words: &[&str]) -> String {
    let before = refused(&site.receiver, reason);
    let answer = runtime().block_on(async {
        let mut node = match Node::open(site.address, files).await {
            Ok(node) => node,
            Err(error) => return error.to_string(),
        };
        node.greet(name).await;
        node.end().await
    });
    wait_for("it is counted", || {
        (refused(&site.receiver, reason) == before + 1).then_some(())
    });
    // It is counted before it is said.
    wait_for(&format!("a line about {reason:?} ({answer})"), || {
        let log = site.log();
        let mut lines = log.iter();
        lines
            .any(|line| words.iter().all(|word| line.contains(word)))
            .then_some(())
    });
    answer
}

#[test]
fn who_is_not_known_is_refused_with_one_line_on_both_sides_and_disturbs_nobody() {
    let site = Site::start(|_| {});
    let reader = site.files("ja4://shop/reader");
    let words = ["reader", "events need forward"];
    let answer = refuses(&site, &reader, NODE, RefuseReason::CertificateRole, &words);
    assert!(
        answer.contains("has the role reader, events need forward"),
        "{answer}"
    );

    let words = ["calls its host \"web-2\"", "\"web-1\""];
    let answer = refuses(&site, &site.node(), "web-2", RefuseReason::Node, &words);
    assert!(answer.contains("its certificate is for \"web-1\""), "{answer}");

    let other = site.files("ja4://other/forward/web-1");
    let words = ["pipeline \"other\""];
    let answer = refuses(&site, &other, NODE, RefuseReason::CertificateName, &words);
    assert!(
        answer.contains("its certificate is for the pipeline \"other\""),
        "{answer}"
    );

    let unnamed = site.files("");
    let words = ["(reason certificate_name)"];
    let answer = refuses(&site, &unnamed, NODE, RefuseReason::CertificateName, &words);
    assert!(
        answer.contains("has no name ja4://PIPELINE/ROLE/NODE"),
        "{answer}"
    );
    // A line for each reason, not for each peer.
    assert_eq!(
        site.log()
            .iter()
            .filter(|line| line.contains("certificate_name"))
            .count(),
        1
    );

    let none = credentials(&site.path("trust.pem"), None);
    let words = ["shows no certificate"];
    let answer = refuses(&site, &none, NODE, RefuseReason::NoCertificate, &words);
    assert!(
        answer.contains("it wants a certificate and we have none"),
        "{answer}"
    );

    let uri = format!("ja4://shop/forward/{NODE}");
    let expired = site.authority.issue_with(&uri, &site.path("expired"), |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let expired = credentials(&site.path("trust.pem"), Some(expired));
    let words = ["has expired"];
    // The refusal comes when the node already speaks: which of the two it sees first must not matter.
    for _ in 0..20 {
        let answer = refuses(&site, &expired, NODE, RefuseReason::CertificateExpired, &words);
        assert!(answer.contains("our certificate has expired"), "{answer}");
    }

    let stranger = Authority::new("stranger").issue(&uri, &site.path("stranger"));
    let stranger = credentials(&site.path("trust.pem"), Some(stranger));
    let words = ["not in the trust bundle"];
    let answer = refuses(&site, &stranger, NODE, RefuseReason::CertificateUntrusted, &words);
    assert!(
        answer.contains("issuer of our certificate is not in its trust bundle"),
        "{answer}"
    );

    refuses(
        &site,
        &site.node(),
        "a\nb",
        RefuseReason::Node,
        &["(reason node)"],
    );
    // Any node for one certificate, as a DaemonSet has.
    let any = site.files("ja4://shop/forward/*");
    runtime().block_on(async {
        let mut node = Node::open(site.address, &any).await.unwrap();
        node.greet("web-7").await;
        assert!(node.link.reply().await.unwrap().is_some());
    });
    site.serves();
    assert_balanced(&site.receiver);
}

#[test]
fn garbage_of_every_layer_is_refused_and_a_good_node_is_served() {
    let site = Site::start(|remote| {
        remote.greeting_timeout = Duration::from_millis(1500);
    });
    // Not TLS.
    let mut raw = TcpStream::connect(site.address).unwrap();
    raw.write_all(&[0x55; 5000]).unwrap();
    wait_for("bytes that are no TLS", || {
        (refused(&site.receiver, RefuseReason::Handshake) == 1).then_some(())
    });
    // Nothing at all.
    let mut silent = TcpStream::connect(site.address).unwrap();
    wait_for("silence", || {
        (refused(&site.receiver, RefuseReason::GreetingTimeout) == 1).then_some(())
    });
    assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0);
    let node = site.node();
    runtime().block_on(async {
        // No greeting, then silence before one.
        let mut rude = Node::open(site.address, &node).await.unwrap();
        rude.events(0, 1, 0..1).await;
        assert!(rude.end().await.contains("did not greet"));
        let mut mute = Node::open(site.address, &node).await.unwrap();
        assert!(mute.end().await.contains("did not greet in time"));
        // Events of nobody.
        let mut lost = Node::greeted(site.address, &node).await;
        lost.events(8, 1, 0..1).await;
        assert!(lost.end().await.contains("has not announced"));
        // A message that is too long.
        let mut long = Node::greeted(site.address, &node).await;
        long.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
        long.batch(0, vec![0; 300 << 10]).await;
        assert!(long.end().await.contains("no frame"), "it is refused");
        // Bytes that are no envelopes: the rest of the stream is taken.
        let mut odd = Node::greeted(site.address, &node).await;
        odd.produces(0, "sensor", 0x200, ROLE_NETWORK).await;
        odd.batch(0, vec![0xff; 3000]).await;
        odd.batch(0, envelope(0x999, 0, EventKind::Confirm)).await;
        odd.batch(0, envelope(0x200, 0, EventKind::Request)).await;
        odd.events(0, 0x200, 1..3).await;
        take(&site.receiver, 2);
        assert_eq!(odd.settled(0, 3).await, 3);
    });
    for (reason, n) in [
        (DropReason::Malformed, 1),
        (DropReason::Claim, 1),
        (DropReason::Role, 1),
    ] {
        assert_eq!(dropped(&site.receiver, reason), n, "{reason:?}");
    }
    assert_eq!(refused(&site.receiver, RefuseReason::Greeting), 1);
    assert_eq!(refused(&site.receiver, RefuseReason::Protocol), 2);
    site.serves();
    assert_balanced(&site.receiver);
}

#[test]
fn a_stream_that_says_nothing_for_too_long_is_closed() {
    let site = Site::start(|remote| remote.idle_timeout = Duration::from_millis(500));
    runtime().block_on(async {
        let mut idle = Node::greeted(site.address, &site.node()).await;
        assert!(idle.end().await.contains("said nothing"));
    });
    assert_eq!(refused(&site.receiver, RefuseReason::Idle), 1);
}

#[test]
fn too_many_connections_of_one_certificate_are_refused_and_others_come_in() {
    let site = Site::start(|remote| remote.max_connections_per_peer = 3);
    let greedy = site.files("ja4://shop/forward/greedy");
    let runtime = runtime();
    let mut held = Vec::new();
    runtime.block_on(async {
        for _ in 0..3 {
            let mut node = Node::open(site.address, &greedy).await.unwrap();
            node.greet("greedy").await;
            node.link.reply().await.unwrap();
            held.push(node);
        }
    });
    refuses(
        &site,
        &greedy,
        "greedy",
        RefuseReason::Connections,
        &["too many connections"],
    );
    site.serves();
    drop(held);
}

#[test]
fn replaced_certificates_are_taken_up_and_the_old_one_is_cut_off_and_refused() {
    let site = Site::start(|_| {});
    let old = site.node();
    let second = Authority::new("second");
    let uri = format!("ja4://shop/forward/{NODE}");
    let trust = site.path("trust.pem");
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &old).await;
        // Both are trusted: nothing happens to what is open.
        Authority::write_bundle(&[&site.authority, &second], &trust);
        let new = credentials(&trust, Some(second.issue(&uri, &site.path("new"))));
        while !is_welcome(&site, &new).await {}
        node.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
        node.events(0, 0x100, 0..10).await;
        take(&site.receiver, 10);
        assert_eq!(node.settled(0, 10).await, 10);
        let before = refused(&site.receiver, RefuseReason::CertificateUntrusted);
        // A server certificate of the second one; the first is not trusted any more.
        second.issue("", &site.path("server"));
        Authority::write_bundle(&[&second], &trust);
        assert!(node.end().await.contains("not accepted any more"));
        assert!(is_welcome(&site, &new).await);
        let refused = refused(&site.receiver, RefuseReason::CertificateUntrusted);
        assert_eq!(refused, before + 1, "the open one");
    });
    // It still trusts the server, and is refused.
    let files = CertificateFiles {
        ..old.own.clone().unwrap()
    };
    refuses(
        &site,
        &credentials(&trust, Some(files)),
        NODE,
        RefuseReason::CertificateUntrusted,
        &["not accepted any more", "not in the trust bundle"][1..],
    );
    // Files that make no sense leave everything as it was.
    replace(&trust, "nonsense");
    wait_for("it is said", || {
        site.log()
            .iter()
            .any(|line| line.contains("are not taken up"))
            .then_some(())
    });
    Authority::write_bundle(&[&second], &trust);
    let new = credentials(&trust, Some(second.issue(&uri, &site.path("new"))));
    assert!(runtime().block_on(is_welcome(&site, &new)));
}

async fn is_welcome(site: &Site, files: &CredentialFiles) -> bool {
    let Ok(mut node) = Node::open(site.address, files).await else {
        return false;
    };
    node.greet(NODE).await;
    matches!(node.link.reply().await, Ok(Some(_)))
}

#[test]
fn a_connection_ends_at_its_age_and_the_next_goes_on() {
    let site = Site::start(|remote| remote.max_connection_age = Duration::from_secs(1));
    let files = site.node();
    runtime().block_on(async {
        let mut next = 0;
        for _ in 0..3 {
            let mut node = Node::greeted(site.address, &files).await;
            node.produces(0, "sensor", 0x100, ROLE_NETWORK).await;
            assert_eq!(node.settled(0, next).await, next);
            node.events(0, 0x100, next..next + 10).await;
            take(&site.receiver, 10);
            next = node.settled(0, next + 10).await;
            assert!(node.end().await.contains("its age"));
        }
        assert_eq!(next, 30);
    });
    assert_eq!(dropped(&site.receiver, DropReason::Duplicate), 0);
}

#[test]
fn a_token_lets_requests_of_its_source_in_and_nothing_else() {
    let tokens: [&str; 2] = [
        "0123456789abcdef0123456789abcdef",
        "fedcba9876543210fedcba9876543210",
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, token) in ["shop", "blog"].iter().zip(tokens) {
        std::fs::write(dir.path().join(name), format!("{token}\n")).unwrap();
    }
    let source = |name: &str| TokenSource {
        name: name.to_owned(),
        token_file: dir.path().join(name),
    };
    let site =
        Site::start(|remote| remote.admission = Admission::Tokens(vec![source("shop"), source("blog")]));
    let with_token = |path: &Path| CredentialFiles {
        trust: site.path("trust.pem"),
        own: None,
        token: Some(path.to_owned()),
    };
    std::fs::write(dir.path().join("wrong"), "0123456789abcdef0123456789abcdee").unwrap();
    refuses(
        &site,
        &with_token(&dir.path().join("wrong")),
        NODE,
        RefuseReason::Token,
        &["token that is not known"],
    );
    let shop = with_token(&dir.path().join("shop"));
    runtime().block_on(async {
        let mut node = Node::greeted(site.address, &shop).await;
        node.produces(0, "shop", 0x100, ROLE_HTTP).await;
        node.batch(0, envelope(0x100, 0, EventKind::Request)).await;
        let batch = wait_for("the event arrives", || {
            match site.receiver.next(Duration::from_millis(20)) {
                Some(Input::Batch(batch)) => Some(batch),
                _ => None,
            }
        });
        assert_eq!((&*batch.peer.source, &*batch.peer.node), ("shop", NODE));
        let frame = batch.frames().next().unwrap();
        assert!(
            frame.recv_ns > 1_600_000_000_000_000_000,
            "stamped here: {}",
            frame.recv_ns
        );
        // Not as another, and not as a sensor.
        node.produces(1, "blog", 0x200, ROLE_HTTP).await;
        assert!(node.end().await.contains("its token is for requests of \"shop\""));
        let mut node = Node::greeted(site.address, &shop).await;
        node.produces(0, "shop", 0x300, ROLE_NETWORK).await;
        assert!(node.end().await.contains("its token is for"));
        // A replaced token ends what was opened with the old one.
        let mut node = Node::greeted(site.address, &shop).await;
        replace(&dir.path().join("shop"), "00000000000000000000000000000000");
        assert!(node.end().await.contains("token was replaced"));
        assert!(is_welcome(&site, &shop).await, "with the new one");
    });
    assert_eq!(refused(&site.receiver, RefuseReason::Source), 2);
    let log = site.log().join("\n");
    assert!(
        tokens.iter().all(|token| !log.contains(token)),
        "no token is ever logged"
    );
}
