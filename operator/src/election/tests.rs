//! Elections in virtual time on a lease in memory, and one by real requests against an API server that fails.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lease(holder: &str, renewed: i64, version: &str) -> SeenLease {
    SeenLease {
        record: Record {
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            acquired: Some(at(0)),
            renewed: Some(at(renewed)),
            transitions: 3,
            duration: Some(seconds(15)),
        },
        resource_version: version.to_owned(),
    }
}

#[track_caller]
fn check(now: u64, since: u64, lease: &SeenLease, expected: Option<Decision>) {
    let view = View {
        seen: Some(lease),
        since: seconds(since),
        vanished_until: Duration::ZERO,
    };
    let decision = decide(seconds(now), at(1_000), view, "me", &Timing::default());
    match expected {
        Some(expected) => assert_eq!(decision, expected),
        None => assert!(
            matches!(&decision, Decision::Replace { record, resource_version }
                if record.holder.as_deref() == Some("me") && *resource_version == lease.resource_version),
            "{decision:?}"
        ),
    }
}

#[test]
fn a_lease_of_another_is_left_alone_until_it_was_seen_unchanged_for_its_duration() {
    let lease = lease("other", 5, "7");
    check(114, 100, &lease, Some(Decision::Wait(seconds(115))));
    check(115, 100, &lease, None);
}

#[test]
fn a_longer_duration_is_respected_and_an_absurd_one_is_not() {
    let mut lease = lease("other", 5, "7");
    lease.record.duration = Some(seconds(30));
    check(129, 100, &lease, Some(Decision::Wait(seconds(130))));
    lease.record.duration = Some(seconds(1));
    check(101, 100, &lease, Some(Decision::Wait(seconds(115))));
    lease.record.duration = Some(seconds(100_000));
    check(101, 100, &lease, Some(Decision::Wait(seconds(160))));
}

#[test]
fn a_released_lease_is_taken_at_once_and_our_own_is_renewed_at_once() {
    check(100, 100, &lease("", 5, "7"), None);
    check(100, 100, &lease("me", 5, "7"), None);
}

#[test]
fn taking_counts_a_transition_and_renewing_does_not() {
    let record_of = |lease: &SeenLease, wall| {
        let view = View {
            seen: Some(lease),
            since: Duration::ZERO,
            vanished_until: Duration::ZERO,
        };
        match decide(seconds(1_000), wall, view, "me", &Timing::default()) {
            Decision::Replace { record, .. } => record,
            other => panic!("{other:?}"),
        }
    };
    let taken = record_of(&lease("other", 5, "7"), at(9));
    assert_eq!((taken.transitions, taken.acquired), (4, Some(at(9))));
    let kept = record_of(&lease("me", 5, "7"), at(9));
    assert_eq!((kept.transitions, kept.acquired), (3, Some(at(0))));
}

#[test]
fn the_time_of_renewal_only_grows_whatever_the_clock_says() {
    let renewed = |last: Timestamp, wall| {
        let mut lease = lease("me", 0, "7");
        lease.record.renewed = Some(last);
        let view = View {
            seen: Some(&lease),
            since: Duration::ZERO,
            vanished_until: Duration::ZERO,
        };
        match decide(seconds(1), wall, view, "me", &Timing::default()) {
            Decision::Replace { record, .. } => record.renewed.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(renewed(at(5), at(9)), at(9));
    let after = at(5) + SignedDuration::from_micros(1);
    assert_eq!(renewed(at(5), at(5)), after);
    assert_eq!(renewed(at(5), at(1)), after);
    assert_eq!(
        renewed(Timestamp::MAX, at(9)),
        at(9),
        "there is nothing after that"
    );
}

#[test]
fn a_lease_that_vanished_is_made_again_only_after_its_holders_term() {
    let mut elector = Elector::new("me", Timing::default());
    assert_eq!(elector.next(seconds(0), at(0)), Decision::Read);
    elector.handle_answer(seconds(0), seconds(0), Answer::Seen(Some(lease("other", 5, "7"))));
    assert!(matches!(elector.next(seconds(0), at(0)), Decision::Wait(_)));
    assert_eq!(elector.next(seconds(2), at(0)), Decision::Read);
    elector.handle_answer(seconds(2), seconds(2), Answer::Seen(None));
    assert!(matches!(elector.next(seconds(2), at(0)), Decision::Wait(_)));
    assert_eq!(elector.next(seconds(15), at(0)), Decision::Read);
    elector.handle_answer(seconds(15), seconds(15), Answer::Seen(None));
    assert!(matches!(elector.next(seconds(15), at(0)), Decision::Create(_)));
}

#[test]
fn a_leader_whose_lease_was_deleted_or_taken_stops_when_it_sees_that() {
    for taken in [None, Some(lease("other", 5, "8")), Some(lease("", 5, "8"))] {
        let mut elector = leading();
        elector.handle_answer(seconds(5), seconds(5), Answer::Conflict);
        assert!(elector.leads(seconds(5)), "its term goes on until it knows");
        elector.handle_answer(seconds(6), seconds(6), Answer::Seen(taken));
        assert!(!elector.leads(seconds(6)));
    }
}

/// One that has led since 0 s.
fn leading() -> Elector {
    let mut elector = Elector::new("me", Timing::default());
    assert_eq!(elector.next(seconds(0), at(0)), Decision::Read);
    elector.handle_answer(seconds(0), seconds(0), Answer::Seen(None));
    assert!(matches!(elector.next(seconds(0), at(0)), Decision::Create(_)));
    elector.handle_answer(seconds(0), seconds(1), Answer::Written(lease("me", 0, "1")));
    elector
}

#[test]
fn a_leader_renews_in_time_and_steps_down_at_its_deadline() {
    let mut elector = leading();
    assert_eq!(elector.next(seconds(1), at(0)), Decision::Wait(seconds(5)));
    assert!(matches!(
        elector.next(seconds(5), at(0)),
        Decision::Replace { .. }
    ));
    elector.handle_answer(seconds(5), seconds(8), Answer::Failed);
    // Between tries it must not sleep over the deadline, which counts from the beginning of the write.
    assert_eq!(elector.next(seconds(8), at(0)), Decision::Wait(seconds(9)));
    assert_eq!(elector.next(seconds(9), at(0)), Decision::Read);
    elector.handle_answer(seconds(9), Duration::from_millis(9_500), Answer::Failed);
    assert_eq!(
        elector.next(Duration::from_millis(9_600), at(0)),
        Decision::Wait(seconds(10))
    );
    assert!(elector.leads(Duration::from_millis(9_999)) && !elector.leads(seconds(10)));
}

#[test]
fn a_write_without_an_answer_may_be_ours_until_somebody_else_is_seen() {
    let mut elector = Elector::new("me", Timing::default());
    assert!(!elector.may_hold());
    assert_eq!(elector.next(seconds(0), at(0)), Decision::Read);
    elector.handle_answer(seconds(0), seconds(0), Answer::Seen(None));
    assert!(matches!(elector.next(seconds(0), at(0)), Decision::Create(_)));
    assert!(elector.may_hold(), "it is on its way");
    elector.handle_answer(seconds(0), seconds(4), Answer::Failed);
    assert!(elector.may_hold() && !elector.leads(seconds(4)));
    elector.handle_answer(seconds(5), seconds(5), Answer::Seen(Some(lease("other", 5, "7"))));
    assert!(!elector.may_hold());
}

/// Random numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The lease in memory, with what the API server says of writes.
#[derive(Default)]
struct Memory {
    lease: Option<SeenLease>,
    version: u64,
}

impl Memory {
    fn apply(&mut self, decision: &Decision) -> Answer {
        let record = match (decision, &self.lease) {
            (Decision::Wait(_), _) => return Answer::Failed,
            (Decision::Read, seen) => return Answer::Seen(seen.clone()),
            (Decision::Create(record), None) => record,
            (
                Decision::Replace {
                    record,
                    resource_version,
                },
                Some(lease),
            ) if *resource_version == lease.resource_version => record,
            (Decision::Create(_) | Decision::Replace { .. }, _) => return Answer::Conflict,
        };
        self.version += 1;
        let lease = SeenLease {
            record: record.clone(),
            resource_version: self.version.to_string(),
        };
        self.lease = Some(lease.clone());
        Answer::Written(lease)
    }
}

/// A request under way. Times in milliseconds of the world.
struct Flight {
    decision: Decision,
    began: Duration,
    arrives: Option<u64>,
    replies: Option<u64>,
    answer: Option<Answer>,
}

/// A process with clocks of its own.
struct Process {
    elector: Elector,
    /// Its milliseconds for a thousand of the world.
    rate: u64,
    offset: u64,
    flight: Option<Flight>,
    paused_until: u64,
    is_dead: bool,
}

impl Process {
    fn new(name: &str, rate: u64, offset: u64) -> Self {
        Self {
            elector: Elector::new(name, Timing::default()),
            rate,
            offset,
            flight: None,
            paused_until: 0,
            is_dead: false,
        }
    }

    fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.offset + now * self.rate / 1000)
    }

    /// What a look right before a write would say, even of one that is paused.
    fn leads(&self, now: u64) -> bool {
        !self.is_dead && self.elector.leads(self.clock(now))
    }
}

/// Processes and the lease they compete for.
struct World {
    now: u64,
    dice: Dice,
    memory: Memory,
    processes: Vec<Process>,
    /// Writes whose sender has given up waiting.
    late: Vec<(u64, Decision)>,
    has_faults: bool,
}

const TICK: u64 = 20;

impl World {
    fn new(seed: u64, processes: Vec<Process>) -> Self {
        Self {
            now: 0,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            memory: Memory::default(),
            processes,
            late: Vec::new(),
            has_faults: false,
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        let (now, faults) = (self.now, self.has_faults);
        let due: Vec<Decision> = self
            .late
            .extract_if(.., |(arrives, _)| *arrives <= now)
            .map(|(_, decision)| decision)
            .collect();
        for decision in due {
            self.memory.apply(&decision);
        }
        for process in &mut self.processes {
            if let Some(flight) = &mut process.flight
                && flight.answer.is_none()
                && flight.arrives.is_some_and(|arrives| arrives <= now)
            {
                flight.answer = Some(self.memory.apply(&flight.decision));
            }
            if process.is_dead || now < process.paused_until {
                continue;
            }
            if faults && self.dice.one_in(1_000) {
                process.paused_until = now + self.dice.below(40_000);
                continue;
            }
            let clock = process.clock(now);
            if let Some(flight) = &process.flight {
                let is_answered =
                    flight.answer.is_some() && flight.replies.is_some_and(|replies| replies <= now);
                let is_over = clock.saturating_sub(flight.began) >= Timing::default().request;
                if !is_answered && !is_over {
                    continue;
                }
                let flight = process.flight.take().unwrap();
                let answer = match flight.answer {
                    Some(answer) if is_answered => answer,
                    Some(_) => Answer::Failed,
                    None => {
                        self.late
                            .extend(flight.arrives.map(|arrives| (arrives, flight.decision)));
                        Answer::Failed
                    }
                };
                let answer = if faults && self.dice.one_in(20) {
                    Answer::Conflict
                } else {
                    answer
                };
                process.elector.handle_answer(flight.began, clock, answer);
            }
            // The wall clock jumps about all the time.
            let wall = at(1_700_000_000 + i64::try_from(self.dice.below(3)).unwrap() * 86_400);
            let decision = process.elector.next(clock, wall);
            if matches!(decision, Decision::Wait(_)) {
                continue;
            }
            let slow = if faults && self.dice.one_in(4) { 9_000 } else { 100 };
            let arrives = now + self.dice.below(slow);
            let replies = arrives + self.dice.below(slow);
            process.flight = Some(Flight {
                decision,
                began: clock,
                arrives: (!faults || !self.dice.one_in(10)).then_some(arrives),
                replies: (!faults || !self.dice.one_in(10)).then_some(replies),
                answer: None,
            });
        }
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |(_, process): &(usize, &Process)| process.leads(self.now);
        self.processes
            .iter()
            .enumerate()
            .filter(leads)
            .map(|(idx, _)| idx)
            .collect()
    }

    /// Lets time pass; nowhere do two lead.
    #[track_caller]
    fn pass(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_millis()).unwrap();
        while self.now < end {
            self.tick();
            assert!(self.leaders().len() <= 1, "two lead at {} ms", self.now);
        }
    }

    /// Time until another than `not` leads.
    #[track_caller]
    fn until_another_leads(&mut self, not: usize) -> Duration {
        let begin = self.now;
        while self.leaders().first().is_none_or(|leader| *leader == not) {
            self.pass(Duration::from_millis(TICK));
            assert!(self.now < begin + 60_000, "nobody leads");
        }
        Duration::from_millis(self.now - begin)
    }
}

fn two() -> Vec<Process> {
    vec![Process::new("a", 1000, 0), Process::new("b", 1000, 77_777)]
}

#[test]
fn of_two_one_leads_and_goes_on_leading() {
    let mut world = World::new(1, two());
    world.pass(seconds(2));
    let leader = world.leaders();
    assert_eq!(leader.len(), 1);
    for _ in 0..100 {
        world.pass(seconds(3));
        assert_eq!(world.leaders(), leader);
    }
    // A renewal each 5 s, and nothing else was written.
    assert!(
        (58..=64).contains(&world.memory.version),
        "{}",
        world.memory.version
    );
}

#[test]
fn a_leader_that_stops_renewing_is_followed_after_the_duration_and_not_before() {
    for seed in 1..20 {
        let mut world = World::new(seed, two());
        world.pass(seconds(20) + Duration::from_millis(seed * 137));
        let leader = world.leaders()[0];
        world.processes[leader].is_dead = true;
        let gap = world.until_another_leads(leader);
        assert!(gap >= seconds(9) && gap < seconds(18), "{gap:?}");
    }
}

#[test]
fn a_process_that_wakes_after_its_lease_is_lost_does_not_lead() {
    let mut world = World::new(3, two());
    world.pass(seconds(30));
    let first = world.leaders()[0];
    world.processes[first].paused_until = world.now + 40_000;
    world.until_another_leads(first);
    world.pass(seconds(60));
    let second = world.leaders();
    assert!(second.len() == 1 && second[0] != first);
    // A short pause changes nothing.
    world.processes[second[0]].paused_until = world.now + 4_000;
    world.pass(seconds(30));
    assert_eq!(world.leaders(), second);
}

#[test]
fn a_released_lease_is_taken_within_a_second_and_a_half() {
    let mut world = World::new(4, two());
    world.pass(seconds(30));
    let leader = world.leaders()[0];
    world.processes[leader].is_dead = true;
    let name = world.processes[leader].elector.me.clone();
    let held = world.memory.lease.clone().unwrap();
    assert_eq!(released(&held, "nobody"), None);
    let free = Decision::Replace {
        record: released(&held, &name).unwrap(),
        resource_version: held.resource_version,
    };
    assert!(matches!(world.memory.apply(&free), Answer::Written(_)));
    let gap = world.until_another_leads(leader);
    assert!(gap < Duration::from_millis(1_500), "{gap:?}");
}

#[test]
fn prop_never_do_two_lead_and_after_the_faults_one_does() {
    for seed in 1..=60 {
        // Clocks that differ by a tenth and have nothing to do with each other.
        let processes = vec![
            Process::new("a", 1_050, 0),
            Process::new("b", 950, 5_000_000),
            Process::new("c", 1_000, 123),
        ];
        let mut world = World::new(seed, processes);
        world.has_faults = true;
        world.pass(seconds(300));
        world.has_faults = false;
        world.pass(seconds(80));
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
        let leader = world.leaders();
        world.pass(seconds(60));
        assert_eq!(world.leaders(), leader, "seed {seed}");
    }
}

#[test]
fn a_term_is_over_without_anybody_saying_so() {
    let term = Term::default();
    assert!(!term.holds());
    term.set(Some(Instant::now() + Duration::from_millis(50)));
    assert!(term.holds());
    std::thread::sleep(Duration::from_millis(60));
    assert!(!term.holds());
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Status(u16),
    /// The connection ends without an answer, before the request is done.
    Cut,
    /// After it is done.
    CutAfter,
}

#[derive(Default)]
struct Api1 {
    lease: Option<Value>,
    version: u64,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
}

impl Api1 {
    fn status(code: u16, reason: &str) -> (u16, Value) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": "so it is",
        });
        (code, status)
    }

    fn answer(&mut self, method: &str, body: &[u8]) -> (u16, Value) {
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, &self.lease) {
            ("GET", Some(lease)) => return (200, lease.clone()),
            ("GET" | "PUT", None) => return Self::status(404, "NotFound"),
            ("POST", Some(_)) => return Self::status(409, "AlreadyExists"),
            ("PUT", Some(lease))
                if lease["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] =>
            {
                return Self::status(409, "Conflict");
            }
            _ => {}
        }
        self.version += 1;
        let mut lease = sent;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        (if method == "POST" { 201 } else { 200 }, lease)
    }
}

/// An API server that has one Lease.
fn serve(faults: &[Fault]) -> (Client, Arc<Mutex<Api1>>) {
    let state = Arc::new(Mutex::new(Api1 {
        faults: faults.iter().copied().collect(),
        ..Api1::default()
    }));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::clone(&state);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap(), &shared);
        }
    });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    (Client::try_from(config).unwrap(), state)
}

fn converse(mut stream: TcpStream, state: &Mutex<Api1>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    // A client that has thought better of it says nothing.
    if !reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        return;
    }
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() <= 2 {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut state = state.lock().unwrap();
    state.requests.push(method.clone());
    let (code, answer) = match state.faults.pop_front() {
        Some(Fault::Status(code)) => Api1::status(code, ""),
        Some(Fault::Cut) => return,
        Some(Fault::CutAfter) => {
            state.answer(&method, &body);
            return;
        }
        None => state.answer(&method, &body),
    };
    let body = answer.to_string();
    let text = format!(
        "HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).ok();
}

struct Replica {
    led: watch::Receiver<bool>,
    term: Term,
    end: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(client: Client, identity: &str) -> Self {
        let (leader, led) = watch::channel(false);
        let (term, end) = (Term::default(), Arc::new(tokio::sync::Notify::new()));
        let candidate = Candidate {
            namespace: "ops".to_owned(),
            lease: "ja4-operator".to_owned(),
            identity: identity.to_owned(),
        };
        let ended = Arc::clone(&end);
        let theirs = term.clone();
        let task = tokio::spawn(async move {
            run(client, candidate, leader, theirs, ended.notified()).await;
        });
        Self { led, term, end, task }
    }

    async fn until_it_leads(&mut self, limit: Duration) {
        tokio::time::timeout(limit, self.led.wait_for(|leads| *leads))
            .await
            .unwrap()
            .unwrap();
        assert!(self.term.holds());
    }

    async fn stop(self) {
        self.end.notify_one();
        self.task.await.unwrap();
        assert!(!self.term.holds());
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn a_leader_releases_at_its_end_and_the_other_takes_over_within_two_seconds() {
    block_on(async {
        let (client, state) = serve(&[]);
        let mut first = Replica::start(client.clone(), "first");
        first.until_it_leads(seconds(5)).await;
        let mut second = Replica::start(client, "second");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!*second.led.borrow());
        // What others have put on the lease stays.
        state.lock().unwrap().lease.as_mut().unwrap()["metadata"]["labels"] = json!({"team": "soc"});
        first.stop().await;
        second.until_it_leads(seconds(2)).await;
        let lease = state.lock().unwrap().lease.clone().unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "second");
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
        assert_eq!(lease["metadata"]["labels"]["team"], "soc");
        second.stop().await;
        let lease = state.lock().unwrap().lease.clone().unwrap();
        assert!(lease["spec"]["holderIdentity"].is_null(), "{lease}");
    });
}

#[test]
fn failures_of_the_api_server_delay_and_do_no_harm() {
    block_on(async {
        let faults = [
            Fault::Status(500),
            Fault::Cut,
            Fault::Status(410),
            Fault::CutAfter,
            Fault::Status(409),
            Fault::Status(429),
            Fault::Status(403),
        ];
        let (client, state) = serve(&faults);
        let mut replica = Replica::start(client, "only");
        replica.until_it_leads(seconds(40)).await;
        state
            .lock()
            .unwrap()
            .faults
            .extend([Fault::CutAfter, Fault::Status(409), Fault::Status(500)]);
        // Over a renewal and its repetition.
        tokio::time::sleep(seconds(8)).await;
        assert!(*replica.led.borrow() && replica.term.holds());
        assert!(state.lock().unwrap().faults.is_empty());
        // The release is tried again too.
        state
            .lock()
            .unwrap()
            .faults
            .extend([Fault::Status(500), Fault::Cut]);
        replica.stop().await;
        let lease = state.lock().unwrap().lease.clone().unwrap();
        assert!(lease["spec"]["holderIdentity"].is_null(), "{lease}");
    });
}
