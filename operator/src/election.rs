//! Which replica leads: a Lease of `coordination.k8s.io/v1` that one process holds and renews.
//!
//! [`Elector`] is pure: monotonic time and answers come in, the next request goes out. The invariant: a process leads
//! only for [`Timing::deadline`] after the *beginning* of its last write that the API server took, and nobody takes the
//! lease of another before it has *seen* it unchanged for [`Timing::duration`], which is longer. Each measures with its own
//! monotonic clock, so wall clocks may say what they want; what is in the lease as times is for people, and only a change of it
//! counts. Writes are replacements of the version that was read, so two that write at once do not both succeed.
//!
//! ```text
//! leader:    Replace ── 5 s ── Replace ── 5 s ── …      no success for 10 s: it does not lead
//! follower:  Read ─ 1 s ─ Read ─ 1 s ─ …                the same for 15 s, or released: Replace
//! ```
//!
//! [`run`] is the shell. A process that was paused learns it late; [`Term::holds`] asks the clock, right before a write.
//! Time that a whole machine sleeps is not counted by the monotonic clock: see the renewal, which the API server then refuses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

/// Longest time that a lease may ask others to wait: a mistyped one must not stop the operator for a year.
const MAX_DURATION: Duration = Duration::from_mins(1);

/// Tries to release the lease at the end.
const RELEASE_TRIES: u32 = 3;

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How long a lease must be seen unchanged before another takes it. Default: 15 s.
    pub(crate) duration: Duration,
    /// How often the leader renews. Default: 5 s.
    pub(crate) renew: Duration,
    /// How long it leads without success. Default: 10 s.
    pub(crate) deadline: Duration,
    /// How often a follower looks, and how soon what failed is tried again. Default: 1 s.
    pub(crate) poll: Duration,
    /// Pause after somebody else's write came first. Default: 200 ms.
    pub(crate) conflict: Duration,
    /// Longest wait for an answer. Default: 4 s, so that two requests fit into the deadline.
    pub(crate) request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            conflict: Duration::from_millis(200),
            request: Duration::from_secs(4),
        }
    }
}

/// What a lease says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Who holds it; nobody if it was released.
    pub(crate) holder: Option<String>,
    /// When its holder took it, by its holder's clock.
    pub(crate) acquired: Option<Timestamp>,
    /// When its holder last renewed it, by its holder's clock.
    pub(crate) renewed: Option<Timestamp>,
    /// How often it went from one to another.
    pub(crate) transitions: i32,
    /// How long others should wait.
    pub(crate) duration: Option<Duration>,
}

impl Record {
    /// Two records with the same are the same lease, unchanged.
    fn is_same(&self, other: &Self) -> bool {
        (&self.holder, self.renewed, self.transitions) == (&other.holder, other.renewed, other.transitions)
    }
}

/// A lease as the API server had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenLease {
    /// What it says.
    pub(crate) record: Record,
    /// Which version of it this is.
    pub(crate) resource_version: String,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing before this moment.
    Wait(Duration),
    /// Read the lease.
    Read,
    /// Make it; nobody has one.
    Create(Record),
    /// Replace this version of it.
    Replace {
        /// What it is to say.
        record: Record,
        /// The version that was seen.
        resource_version: String,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was read; nothing if there is none.
    Seen(Option<SeenLease>),
    /// Our write was taken.
    Written(SeenLease),
    /// Somebody else was first.
    Conflict,
    /// Nothing is known of it, not even whether it was done.
    Failed,
}

/// What [`decide`] goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'v> {
    /// The lease as it was last seen; none if there is none.
    pub(crate) seen: Option<&'v SeenLease>,
    /// Since when it is as it is, by our clock.
    pub(crate) since: Duration,
    /// The end of the term of a holder whose lease has vanished.
    pub(crate) vanished_until: Duration,
}

/// Whether to take or renew a lease that was read just now, or until when to leave it alone. `now`, `since` and the result are
/// of one monotonic clock, `wall` is what the lease will say.
pub(crate) fn decide(now: Duration, wall: Timestamp, view: View<'_>, me: &str, timing: &Timing) -> Decision {
    let mine = |before: Option<&Record>| {
        let is_mine = before.is_some_and(|before| before.holder.as_deref() == Some(me));
        // A renewal must show, and what was once seen must not come again, whatever the clock does: it may stand or be set back.
        let last = before.filter(|_| is_mine).and_then(|before| before.renewed);
        let after_last = last.and_then(|last| last.checked_add(SignedDuration::from_micros(1)).ok());
        let renewed = after_last.map_or(wall, |after_last| after_last.max(wall));
        Record {
            holder: Some(me.to_owned()),
            acquired: before
                .filter(|_| is_mine)
                .and_then(|before| before.acquired)
                .or(Some(wall)),
            renewed: Some(renewed),
            transitions: before.map_or(0, |before| before.transitions.saturating_add(i32::from(!is_mine))),
            duration: Some(timing.duration),
        }
    };
    let Some(SeenLease {
        record,
        resource_version,
    }) = view.seen
    else {
        // Somebody has deleted it. Its holder leads until it sees that.
        return if now < view.vanished_until {
            Decision::Wait(view.vanished_until)
        } else {
            Decision::Create(mine(None))
        };
    };
    let free_at = match record.holder.as_deref() {
        None => now,
        Some(holder) if holder == me => now,
        Some(_) => view.since + patience(record, timing),
    };
    if now < free_at {
        return Decision::Wait(free_at);
    }
    Decision::Replace {
        record: mine(Some(record)),
        resource_version: resource_version.clone(),
    }
}

/// How long a lease of another must be seen unchanged: as long as it says, if that is longer than ours.
fn patience(record: &Record, timing: &Timing) -> Duration {
    record.duration.map_or(timing.duration, |asked| {
        asked.clamp(timing.duration, MAX_DURATION.max(timing.duration))
    })
}

/// One who wants to lead. Time is monotonic, from any beginning.
#[derive(Debug)]
pub(crate) struct Elector {
    me: String,
    timing: Timing,
    seen: Option<SeenLease>,
    /// `seen` is as it was when somebody last looked, and has not been acted upon.
    is_fresh: bool,
    since: Duration,
    vanished_until: Duration,
    /// Beginning of the last write that was taken.
    renewed: Option<Duration>,
    /// A write of ours may have been taken without our knowing.
    is_unsure: bool,
    /// No request before this.
    next: Duration,
}

impl Elector {
    /// One who knows nothing yet.
    pub(crate) fn new(me: impl Into<String>, timing: Timing) -> Self {
        Self {
            me: me.into(),
            timing,
            seen: None,
            is_fresh: false,
            since: Duration::ZERO,
            vanished_until: Duration::ZERO,
            renewed: None,
            is_unsure: false,
            next: Duration::ZERO,
        }
    }

    /// Until when it leads; nothing if it does not.
    pub(crate) fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|renewed| renewed + self.timing.deadline)
    }

    /// True while it leads.
    pub(crate) fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// True if the lease may be ours, led or not: it is to be released at the end.
    pub(crate) fn may_hold(&self) -> bool {
        self.is_unsure
            || self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.record.holder.as_deref() == Some(self.me.as_str()))
    }

    /// What to do now. `wall` is what the lease will say.
    pub(crate) fn next(&mut self, now: Duration, wall: Timestamp) -> Decision {
        if let Some(until) = self.leads_until() {
            if now >= until {
                self.renewed = None;
                self.is_fresh = false;
            } else if now < self.next {
                return Decision::Wait(self.next.min(until));
            }
        }
        if now < self.next {
            return Decision::Wait(self.next);
        }
        if !self.is_fresh {
            return Decision::Read;
        }
        let view = View {
            seen: self.seen.as_ref(),
            since: self.since,
            vanished_until: self.vanished_until,
        };
        let decision = decide(now, wall, view, &self.me, &self.timing);
        self.is_fresh = false;
        if let Decision::Wait(free_at) = decision {
            // It may be released before.
            self.next = free_at.min(now + self.timing.poll);
            return Decision::Wait(self.next);
        }
        // Until an answer says otherwise it may be done.
        self.is_unsure = true;
        decision
    }

    /// Takes up what came of a request that began at `began` and ended at `now`.
    pub(crate) fn handle_answer(&mut self, began: Duration, now: Duration, answer: Answer) {
        match answer {
            Answer::Seen(lease) => self.handle_seen(now, lease),
            Answer::Written(lease) => {
                self.seen = Some(lease);
                self.since = now;
                self.vanished_until = Duration::ZERO;
                self.is_fresh = true;
                self.is_unsure = false;
                self.renewed = Some(began);
                self.next = began + self.timing.renew;
            }
            Answer::Conflict => {
                self.is_fresh = false;
                self.next = now + self.timing.conflict;
            }
            Answer::Failed => {
                self.is_fresh = false;
                self.next = now + self.timing.poll;
            }
        }
    }

    fn handle_seen(&mut self, now: Duration, lease: Option<SeenLease>) {
        let holder = lease.as_ref().and_then(|lease| lease.record.holder.as_deref());
        let is_mine = holder == Some(self.me.as_str());
        if !is_mine {
            // Taken, deleted or emptied: whoever comes next need not wait for us.
            self.renewed = None;
            self.is_unsure = false;
        }
        match (&self.seen, &lease) {
            (Some(before), Some(after)) if before.record.is_same(&after.record) => {}
            _ => self.since = now,
        }
        match &lease {
            Some(lease) if holder.is_some() && !is_mine => {
                self.vanished_until = self.since + patience(&lease.record, &self.timing);
            }
            Some(_) => self.vanished_until = Duration::ZERO,
            None => {}
        }
        self.seen = lease;
        self.is_fresh = true;
        self.next = now;
    }
}

/// What a lease says after its holder `me` has let it go; nothing if it is not his.
fn released(seen: &SeenLease, me: &str) -> Option<Record> {
    (seen.record.holder.as_deref() == Some(me)).then(|| Record {
        holder: None,
        acquired: None,
        ..seen.record.clone()
    })
}

/// Until when this process leads, for a look right before a write. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Term(Arc<Mutex<Option<Instant>>>);

impl Term {
    /// True if this process leads at this very moment, even if it was paused until just now.
    pub(crate) fn holds(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Who wants to lead, and by which lease.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Namespace of the lease: the operator's own.
    pub(crate) namespace: String,
    /// Name of the lease.
    pub(crate) lease: String,
    /// Name of this process: no other has it at the same time, such as that of its pod.
    pub(crate) identity: String,
}

/// Takes part in the election until `ended`, then releases the lease. `leader` and `term` say whether this process leads.
/// `ended` is to come when the leader's work has stopped: the next one begins at once.
pub(crate) async fn run(
    client: Client,
    candidate: Candidate,
    leader: watch::Sender<bool>,
    term: Term,
    ended: impl Future<Output = ()>,
) {
    let timing = Timing::default();
    let mut shell = Shell {
        api: Api::namespaced(client, &candidate.namespace),
        elector: Elector::new(&*candidate.identity, timing),
        candidate,
        timing,
        origin: Instant::now(),
        leader,
        term,
        object: None,
        trouble: None,
    };
    tokio::select! {
        () = shell.compete() => {}
        () = ended => {}
    }
    shell.publish(false);
    shell.release().await;
}

struct Shell {
    api: Api<Lease>,
    candidate: Candidate,
    timing: Timing,
    elector: Elector,
    origin: Instant,
    leader: watch::Sender<bool>,
    term: Term,
    /// The lease as it was last read or written, with what others have put on it.
    object: Option<Lease>,
    /// What was said of the last failure, to say it once.
    trouble: Option<String>,
}

impl Shell {
    /// Never ends by itself.
    async fn compete(&mut self) {
        loop {
            let now = self.origin.elapsed();
            self.publish(self.elector.leads(now));
            let decision = self.elector.next(now, wall());
            // It may have stepped down.
            self.publish(self.elector.leads(now));
            if let Decision::Wait(until) = decision {
                tokio::time::sleep_until((self.origin + until).into()).await;
                continue;
            }
            // The end of the term must not be waited over.
            let left = self
                .elector
                .leads_until()
                .map_or(self.timing.request, |until| until.saturating_sub(now));
            let patience = self.timing.request.min(left);
            let answer = match tokio::time::timeout(patience, self.ask(decision)).await {
                Ok(Ok(answer)) => {
                    self.trouble = None;
                    answer
                }
                Ok(Err(error)) => self.failed(error.to_string()),
                Err(_) => self.failed(format!("no answer within {patience:?}")),
            };
            self.elector.handle_answer(now, self.origin.elapsed(), answer);
        }
    }

    /// One request.
    async fn ask(&mut self, decision: Decision) -> Result<Answer, kube::Error> {
        let name = self.candidate.lease.clone();
        let (result, is_read) = match decision {
            Decision::Wait(_) => return Ok(Answer::Failed),
            Decision::Read => (self.api.get_opt(&name).await, true),
            Decision::Create(record) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec(record, None)),
                };
                (
                    self.api.create(&PostParams::default(), &lease).await.map(Some),
                    false,
                )
            }
            Decision::Replace {
                record,
                resource_version,
            } => {
                let mut lease = self.object.clone().unwrap_or_default();
                lease.metadata.name = Some(name.clone());
                lease.metadata.resource_version = Some(resource_version);
                lease.spec = Some(spec(record, lease.spec.take()));
                (
                    self.api
                        .replace(&name, &PostParams::default(), &lease)
                        .await
                        .map(Some),
                    false,
                )
            }
        };
        match result {
            Ok(lease) => {
                let seen = lease.as_ref().map(seen);
                self.object = lease;
                Ok(match seen {
                    Some(seen) if !is_read => Answer::Written(seen),
                    seen => Answer::Seen(seen),
                })
            }
            // Made or changed by somebody else, or deleted: it is to be read.
            Err(kube::Error::Api(status)) if !is_read && matches!(status.code, 404 | 409 | 410) => {
                tracing::debug!("lease {name}: somebody else was first ({})", status.message);
                if status.code == 404 && self.object.is_none() {
                    // A lease cannot be made in a namespace that is not there.
                    return Err(kube::Error::Api(status));
                }
                Ok(Answer::Conflict)
            }
            Err(error) => Err(error),
        }
    }

    /// Says a failure once.
    fn failed(&mut self, why: String) -> Answer {
        let name = &self.candidate.lease;
        if self.trouble.as_ref() == Some(&why) {
            tracing::debug!("lease {name}: {why}");
        } else {
            tracing::warn!("lease {name} cannot be read or written, trying again: {why}");
        }
        self.trouble = Some(why);
        Answer::Failed
    }

    /// Tells whether this process leads.
    fn publish(&self, leads: bool) {
        let until = self.elector.leads_until().filter(|_| leads);
        self.term.set(until.map(|until| self.origin + until));
        let is_news = self
            .leader
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if is_news {
            let Candidate { lease, identity, .. } = &self.candidate;
            if leads {
                tracing::info!("{identity} leads by the lease {lease}");
            } else {
                tracing::info!("{identity} does not lead any more by the lease {lease}");
            }
        }
    }

    /// Lets the lease go, if it is ours.
    async fn release(&mut self) {
        if !self.elector.may_hold() {
            return;
        }
        for _ in 0..RELEASE_TRIES {
            match tokio::time::timeout(self.timing.poll, self.release_once()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::debug!("lease {} cannot be released: {error}", self.candidate.lease);
                }
                Err(_) => tracing::debug!("lease {} cannot be released in time", self.candidate.lease),
            }
            tokio::time::sleep(self.timing.conflict).await;
        }
        tracing::warn!(
            "lease {} could not be released: another replica takes it after {:?}",
            self.candidate.lease,
            self.timing.duration
        );
    }

    async fn release_once(&mut self) -> Result<(), kube::Error> {
        let name = self.candidate.lease.clone();
        let Some(mut lease) = self.api.get_opt(&name).await? else {
            return Ok(());
        };
        let Some(record) = released(&seen(&lease), &self.candidate.identity) else {
            return Ok(());
        };
        lease.spec = Some(spec(record, lease.spec.take()));
        self.api.replace(&name, &PostParams::default(), &lease).await?;
        tracing::info!("{} has released the lease {name}", self.candidate.identity);
        Ok(())
    }
}

/// The wall clock, as exact as a lease says it.
fn wall() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

fn seen(lease: &Lease) -> SeenLease {
    let spec = lease.spec.clone().unwrap_or_default();
    SeenLease {
        record: Record {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or(0),
            duration: spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        },
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The record in the API's words; other fields as they were.
fn spec(record: Record, before: Option<LeaseSpec>) -> LeaseSpec {
    LeaseSpec {
        acquire_time: record.acquired.map(MicroTime),
        holder_identity: record.holder,
        lease_duration_seconds: record
            .duration
            .map(|duration| i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)),
        lease_transitions: Some(record.transitions),
        renew_time: record.renewed.map(MicroTime),
        ..before.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
