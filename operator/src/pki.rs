//! Certificates and secrets of a pipeline: what is to be written, from what there is. Pure, but for new keys.
//!
//! In come the Secrets as they are, what the pipeline needs, and the time; out come the writes that are missing, in order.
//! The invariant: each Secret follows from `ca`, itself and the time alone, so a process that is killed between two writes is
//! followed by one that does the rest; and a plan over what a plan has left writes nothing.
//!
//! ```text
//! ca ─┬─ trust            ConfigMap: whom clients of the store believe
//!     ├─ *-tls            tls.crt, tls.key of a leaf, and ca.crt: whom its owner believes
//!     └─ rotation:  TrustBoth ── settle ──▶ IssueNew ── settle + age of connections ──▶ done
//!          issues:  old                     new                                        new
//!        believes:  old, new                old, new                                   new
//! ```
//!
//! A phase ends only when all Secrets are as it wants them and have been so for long enough for every pod to have
//! read them. That is why its beginning is stamped again when something had to be written late. Private keys never show
//! in `Debug`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use operator_manifests::names;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Annotation of a pipeline: each new value replaces its authority once.
pub(crate) const ROTATE: &str = "ja4platform.io/rotate";
/// Annotation of the Secret `ca`: the phase of the rotation.
pub(crate) const ROTATION_PHASE: &str = "ja4platform.io/rotation-phase";
/// Annotation of the Secret `ca`: since when everything is as the phase wants it.
pub(crate) const ROTATION_SINCE: &str = "ja4platform.io/rotation-since";
/// Annotation of the Secret `ca`: the value of [`ROTATE`] that was followed last.
pub(crate) const ROTATED: &str = "ja4platform.io/rotated";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The bundle of those who are believed.
const TRUST: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";

/// Users of the embedded store; each has a token of this name.
const TOKENS: [&str; 4] = ["writer", "detector", "dashboard", "migrator"];
/// Shortest token that is kept, characters: 128 bits as hexadecimal digits.
const MIN_TOKEN_CHARS: usize = 32;
/// Key in the Secret with the redaction key, and its length, bytes.
const REDACTION_KEY: &str = "key";
const REDACTION_BYTES: usize = 32;

/// A new certificate is valid since so long ago: clocks of nodes differ.
const BACKDATED: u64 = 3600;
/// A phase is stamped again if something was written later than this after its beginning, seconds.
const LATE: u64 = 10;
/// Longest value of [`ROTATE`] that is told apart from others, characters.
const MAX_ROTATE_CHARS: usize = 200;
/// Longest time to the next look.
const MAX_CHECK: Duration = Duration::from_hours(24);

/// A Secret, or the `ConfigMap` [`Part::Trust`]. The order is that of writing: whom to believe before who is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The authority.
    Ca,
    /// The bundle alone, for clients of the store: a `ConfigMap`.
    Trust,
    /// The correlator's server.
    CorrelatorTls,
    /// The embedded store's server.
    StoreTls,
    /// The listener for sources with a token.
    IngestTls,
    /// The forwarders' client.
    ForwardTls,
    /// The operator's own client, for the report.
    OperatorTls,
    /// A token for each user of the embedded store.
    StoreTokens,
    /// The key under which credentials are hashed.
    RedactionKey,
}

impl Part {
    /// Certificates without a store of the pipeline's own.
    #[cfg(test)]
    pub(crate) const CERTIFICATES: [Self; 5] = [
        Self::Ca,
        Self::Trust,
        Self::CorrelatorTls,
        Self::ForwardTls,
        Self::OperatorTls,
    ];

    /// Every part.
    pub(crate) const ALL: [Self; 9] = [
        Self::Ca,
        Self::Trust,
        Self::CorrelatorTls,
        Self::StoreTls,
        Self::IngestTls,
        Self::ForwardTls,
        Self::OperatorTls,
        Self::StoreTokens,
        Self::RedactionKey,
    ];

    /// The end of its name.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Trust => "trust",
            Self::CorrelatorTls => "correlator-tls",
            Self::StoreTls => "store-tls",
            Self::IngestTls => "ingest-tls",
            Self::ForwardTls => "forward-tls",
            Self::OperatorTls => "operator-tls",
            Self::StoreTokens => "store-tokens",
            Self::RedactionKey => "redaction-key",
        }
    }

    /// Its name.
    pub(crate) fn name(self, pipeline: &str) -> String {
        names::secret(pipeline, self.suffix())
    }

    /// True for the one that is no Secret.
    pub(crate) const fn is_config_map(self) -> bool {
        matches!(self, Self::Trust)
    }

    /// The Secret's `type`, which cannot change.
    pub(crate) const fn secret_type(self) -> &'static str {
        match self {
            Self::Trust | Self::StoreTokens | Self::RedactionKey => "Opaque",
            _ => "kubernetes.io/tls",
        }
    }

    const fn is_leaf(self) -> bool {
        matches!(
            self,
            Self::CorrelatorTls | Self::StoreTls | Self::IngestTls | Self::ForwardTls | Self::OperatorTls
        )
    }
}

/// What is in a Secret, by key. `Debug` shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Data(pub(crate) BTreeMap<String, Vec<u8>>);

impl Data {
    fn of<const N: usize>(entries: [(&str, &[u8]); N]) -> Self {
        Self(
            entries
                .map(|(key, value)| (key.to_owned(), value.to_vec()))
                .into(),
        )
    }

    /// The value of a key; empty if it is not there.
    pub(crate) fn get(&self, key: &str) -> &[u8] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A Secret as it is, or as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// What is in it.
    pub(crate) data: Data,
    /// Its annotations; others than ours are ignored.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The parts that there are.
pub(crate) type Existing = BTreeMap<Part, Stored>;

/// Lives of certificates and pauses of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Life of a leaf. Default: 90 days.
    pub(crate) leaf: Duration,
    /// Life of an authority. Default: three years.
    pub(crate) authority: Duration,
    /// After this every pod has read a Secret that was written. Default: 180 s; mounts follow after some 70 s.
    pub(crate) settle: Duration,
    /// Longest life of a connection. Default: eleven minutes, which is the correlator's ten and its tenth more.
    pub(crate) connection: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            leaf: 90 * day,
            authority: 3 * 365 * day,
            settle: Duration::from_mins(3),
            connection: Duration::from_mins(11),
        }
    }
}

impl Times {
    /// With leaves that live so long, and authorities ten times as long.
    pub(crate) fn of_leaf(leaf: Duration) -> Self {
        Self {
            leaf,
            authority: 10 * leaf,
            ..Self::default()
        }
    }
}

/// What a pipeline needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) pipeline: String,
    /// Which parts. Without [`Part::Ca`] no certificates are made.
    pub(crate) parts: BTreeSet<Part>,
    /// Value of the annotation [`ROTATE`].
    pub(crate) rotate: Option<String>,
    /// Lives and pauses.
    pub(crate) times: Times,
}

/// How far a rotation is. Without one only the one authority is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Both are believed, the old one issues.
    TrustBoth,
    /// Both are believed, the new one issues.
    IssueNew,
}

impl Phase {
    /// The name in annotations and messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TrustBoth => "TrustBoth",
            Self::IssueNew => "IssueNew",
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretWrite {
    /// Which.
    pub(crate) part: Part,
    /// All of our data and annotations that it is to have; what else of ours is there goes.
    pub(crate) content: Stored,
    /// Why it is written, such as `is not there`.
    pub(crate) why: &'static str,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// In this order.
    pub(crate) writes: Vec<SecretWrite>,
    /// When the first certificate ends; nothing without certificates.
    pub(crate) earliest_expiry: Option<SystemTime>,
    /// How far a rotation is; nothing if there is none.
    pub(crate) rotation: Option<Phase>,
    /// When to plan again, if nothing else happens.
    pub(crate) next_check: Duration,
    /// What a person has to put right, because it must not be replaced.
    pub(crate) faults: Vec<String>,
    /// The needed parts as they are after the writes.
    pub(crate) after: Existing,
}

/// Why nothing can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// There is no randomness.
    #[error("no random numbers can be had")]
    Random(#[source] getrandom::Error),
    /// A key or certificate cannot be made.
    #[error("a certificate for {part} cannot be made")]
    Make {
        /// Whose.
        part: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// Fills bytes with random numbers.
pub(crate) type Random<'r> = dyn FnMut(&mut [u8]) -> Result<(), getrandom::Error> + 'r;

/// Plans for `now`. New keys come of the system's randomness; tokens and numbers of certificates of `random`.
///
/// # Errors
/// See [`PkiError`].
pub(crate) fn plan(
    existing: &Existing,
    needs: &Needs,
    now: SystemTime,
    random: &mut Random<'_>,
) -> Result<Plan, PkiError> {
    let mut planner = Planner {
        existing,
        needs,
        now: seconds_of(now),
        random,
        plan: Plan {
            writes: Vec::new(),
            earliest_expiry: None,
            rotation: None,
            next_check: MAX_CHECK,
            faults: Vec::new(),
            after: Existing::new(),
        },
    };
    if needs.parts.contains(&Part::Ca) {
        planner.certificates()?;
    }
    if needs.parts.contains(&Part::StoreTokens) {
        planner.tokens()?;
    }
    if needs.parts.contains(&Part::RedactionKey) {
        planner.redaction_key()?;
    }
    Ok(planner.plan)
}

struct Planner<'p, 'r> {
    existing: &'p Existing,
    needs: &'p Needs,
    /// Seconds since 1970.
    now: u64,
    random: &'p mut Random<'r>,
    plan: Plan,
}

impl Planner<'_, '_> {
    fn certificates(&mut self) -> Result<(), PkiError> {
        let (state, why) = match State::read(self.existing.get(&Part::Ca), self.now) {
            Ok(state) => (self.advance(state)?, "has another phase of its rotation"),
            Err(why) => {
                let current = self.authority()?;
                (State::new(current, self.now, self.asked()), why)
            }
        };
        self.plan.rotation = state.phase();
        self.expires(state.current.life.to);
        self.check_at(match state.other {
            Other::None => state.current.life.renew_at(),
            _ => state.ends(&self.needs.times),
        });
        let bundle = state.bundle();
        self.put(Part::Ca, state.content(), why);
        for part in self.needs.parts.clone() {
            if part == Part::Trust {
                let content = Stored {
                    data: Data::of([(TRUST, &bundle)]),
                    ..Stored::default()
                };
                self.put(part, content, "does not name those who are to be believed");
            } else if part.is_leaf() {
                self.leaf(part, &state.current, &bundle)?;
            }
        }
        Ok(())
    }

    /// The next step of a rotation, if it is time for one.
    fn advance(&mut self, mut state: State) -> Result<State, PkiError> {
        // A clock was set back: what lies ahead would never come.
        state.since = state.since.min(self.now);
        let is_in_place = match state.other {
            Other::None => return self.begin(state),
            Other::Next(_) => self.is_trust_in_place(&state.bundle()),
            Other::Previous(_) => {
                self.is_trust_in_place(&state.bundle()) && self.are_leaves_of(&state.current)
            }
        };
        if !is_in_place {
            if self.now > state.since + LATE {
                state.since = self.now;
            }
        } else if self.now >= state.ends(&self.needs.times) {
            state.since = self.now;
            match std::mem::replace(&mut state.other, Other::None) {
                Other::Next(next) => {
                    let previous = std::mem::replace(&mut state.current, *next);
                    state.other = Other::Previous(previous.certificate);
                }
                // The next one may have been asked for meanwhile.
                Other::None | Other::Previous(_) => return self.begin(state),
            }
        }
        Ok(state)
    }

    /// Begins a rotation, if it is time for one.
    fn begin(&mut self, mut state: State) -> Result<State, PkiError> {
        let asked = self.asked();
        let is_asked = asked.is_some() && state.rotated != asked;
        if is_asked || self.now >= state.current.life.renew_at() {
            state.other = Other::Next(Box::new(self.authority()?));
            state.since = self.now;
            state.rotated = asked.or(state.rotated);
        }
        Ok(state)
    }

    /// The value of the pipeline's annotation.
    fn asked(&self) -> Option<String> {
        let value = self.needs.rotate.as_deref()?;
        Some(value.chars().take(MAX_ROTATE_CHARS).collect())
    }

    fn is_trust_in_place(&self, bundle: &[u8]) -> bool {
        let mut parts = self
            .needs
            .parts
            .iter()
            .filter(|part| **part == Part::Trust || part.is_leaf());
        parts.all(|part| {
            self.existing
                .get(part)
                .is_some_and(|stored| stored.data.get(TRUST) == bundle)
        })
    }

    fn are_leaves_of(&self, issuer: &Authority) -> bool {
        let mut parts = self.needs.parts.iter().filter(|part| part.is_leaf());
        parts.all(|part| {
            let leaf = self
                .existing
                .get(part)
                .and_then(|stored| Leaf::read(&stored.data).ok());
            leaf.is_some_and(|leaf| leaf.is_of(issuer))
        })
    }

    /// A leaf as it is, if that will do, else a new one; with this bundle.
    fn leaf(&mut self, part: Part, issuer: &Authority, bundle: &[u8]) -> Result<(), PkiError> {
        let Some(want) = Want::of(part, self.needs) else {
            return Ok(());
        };
        let found = self.existing.get(&part);
        let usable = found.ok_or("is not there").and_then(|stored| {
            let leaf = Leaf::read(&stored.data)?;
            leaf.check(&want, issuer, self.now)?;
            Ok((&stored.data, leaf.life))
        });
        let (certificate, key, life, why) = match usable {
            Ok((data, life)) => {
                let why = "does not name those who are to be believed";
                (data.get(CERTIFICATE).to_vec(), data.get(KEY).to_vec(), life, why)
            }
            Err(why) => {
                let (certificate, key, life) = self.make_leaf(&want, issuer)?;
                (certificate, key, life, why)
            }
        };
        self.expires(life.to);
        self.check_at(life.renew_at());
        let content = Stored {
            data: Data::of([(CERTIFICATE, &certificate), (KEY, &key), (TRUST, bundle)]),
            ..Stored::default()
        };
        self.put(part, content, why);
        Ok(())
    }

    fn tokens(&mut self) -> Result<(), PkiError> {
        let found = self.existing.get(&Part::StoreTokens);
        let mut content = Stored::default();
        for name in TOKENS {
            let kept = found
                .map(|stored| stored.data.get(name))
                .filter(|token| is_token(token));
            let token = match kept {
                Some(token) => token.to_vec(),
                None => hex(&self.random::<32>()?).into_bytes(),
            };
            content.data.0.insert(name.to_owned(), token);
        }
        self.put(Part::StoreTokens, content, "has no token for each user");
        Ok(())
    }

    /// Never replaced: everything that was hashed under it would lose its name.
    fn redaction_key(&mut self) -> Result<(), PkiError> {
        let found = self
            .existing
            .get(&Part::RedactionKey)
            .map_or(&[][..], |stored| stored.data.get(REDACTION_KEY));
        let key = if found.is_empty() {
            self.random::<REDACTION_BYTES>()?.to_vec()
        } else {
            found.to_vec()
        };
        if key.len() != REDACTION_BYTES {
            let name = Part::RedactionKey.name(&self.needs.pipeline);
            self.plan.faults.push(format!(
                "Secret {name}: {REDACTION_KEY} has {} bytes instead of {REDACTION_BYTES}; put the key back that was there, or delete \
                 the Secret for a new one, under which the same credential has another hash",
                key.len()
            ));
        }
        let content = Stored {
            data: Data::of([(REDACTION_KEY, &key)]),
            ..Stored::default()
        };
        self.put(Part::RedactionKey, content, "has no key");
        Ok(())
    }

    /// Writes a part if it is not so already.
    fn put(&mut self, part: Part, content: Stored, why: &'static str) {
        let found = self.existing.get(&part);
        if found.is_none_or(|found| !is_as(found, &content)) {
            let why = if found.is_none() { "is not there" } else { why };
            self.plan.writes.push(SecretWrite {
                part,
                content: content.clone(),
                why,
            });
        }
        self.plan.after.insert(part, content);
    }

    fn expires(&mut self, at: u64) {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        self.plan.earliest_expiry = Some(self.plan.earliest_expiry.map_or(at, |earliest| earliest.min(at)));
    }

    fn check_at(&mut self, at: u64) {
        let wait = Duration::from_secs(at.saturating_sub(self.now).max(1));
        self.plan.next_check = self.plan.next_check.min(wait);
    }

    fn random<const N: usize>(&mut self) -> Result<[u8; N], PkiError> {
        let mut bytes = [0; N];
        (self.random)(&mut bytes).map_err(PkiError::Random)?;
        Ok(bytes)
    }

    /// Number of a certificate: positive and of full length.
    fn serial(&mut self) -> Result<[u8; 16], PkiError> {
        let mut bytes = self.random::<16>()?;
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Ok(bytes)
    }

    fn authority(&mut self) -> Result<Authority, PkiError> {
        let serial = self.serial()?;
        let life = Life::of(self.now, self.needs.times.authority);
        // Each has a name of its own: who looks for an issuer by its name must not find the other one.
        let name = format!("{} {}", self.needs.pipeline, hex(&serial[..4]));
        let mut params = self.params(&serial, life, &name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let make = || -> Result<_, rcgen::Error> {
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok((certificate.pem().into_bytes(), certificate.der().clone(), key))
        };
        let (certificate, der, key) = make().map_err(|source| PkiError::Make {
            part: Part::Ca.suffix(),
            source,
        })?;
        Ok(Authority {
            certificate,
            key_pem: key.serialize_pem().into_bytes(),
            der,
            key,
            life,
        })
    }

    fn make_leaf(&mut self, want: &Want, issuer: &Authority) -> Result<(Vec<u8>, Vec<u8>, Life), PkiError> {
        let serial = self.serial()?;
        let mut life = Life::of(self.now, self.needs.times.leaf);
        life.to = life.to.min(issuer.life.to);
        let mut params = self.params(&serial, life, &want.name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if want.is_server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let mut make = || -> Result<_, rcgen::Error> {
            for name in &want.dns {
                params
                    .subject_alt_names
                    .push(SanType::DnsName(name.as_str().try_into()?));
            }
            for name in &want.uris {
                params
                    .subject_alt_names
                    .push(SanType::URI(name.as_str().try_into()?));
            }
            let key = KeyPair::generate()?;
            let signer = Issuer::from_ca_cert_der(&issuer.der, &issuer.key)?;
            let certificate = params.signed_by(&key, &signer)?;
            Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
        };
        let (certificate, key) = make().map_err(|source| PkiError::Make {
            part: want.part.suffix(),
            source,
        })?;
        Ok((certificate, key, life))
    }

    fn params(&self, serial: &[u8], life: Life, name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "ja4-platform");
        subject.push(DnType::OrganizationalUnitName, self.needs.namespace.as_str());
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let begin = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = begin + Duration::from_secs(life.from);
        params.not_after = begin + Duration::from_secs(life.to);
        params
    }
}

/// True if all of ours is there and nothing of ours that should not be. What others have added does not matter.
fn is_as(found: &Stored, wanted: &Stored) -> bool {
    let is_there = wanted
        .data
        .0
        .iter()
        .all(|(key, value)| found.data.0.get(key) == Some(value));
    let is_gone = [NEXT_CERTIFICATE, NEXT_KEY, PREVIOUS_CERTIFICATE]
        .iter()
        .all(|key| found.data.0.contains_key(*key) == wanted.data.0.contains_key(*key));
    let is_annotated = [ROTATION_PHASE, ROTATION_SINCE, ROTATED]
        .iter()
        .all(|name| found.annotations.get(*name) == wanted.annotations.get(*name));
    is_there && is_gone && is_annotated
}

fn is_token(token: &[u8]) -> bool {
    token.len() >= MIN_TOKEN_CHARS && token.iter().all(u8::is_ascii_graphic)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes every text");
            text
        })
}

fn seconds_of(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// When a certificate is valid, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    from: u64,
    to: u64,
}

impl Life {
    fn of(now: u64, life: Duration) -> Self {
        Self {
            from: now.saturating_sub(BACKDATED.min(life.as_secs() / 10)),
            to: now + life.as_secs(),
        }
    }

    fn read(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
        Self {
            from: seconds(validity.not_before.timestamp()),
            to: seconds(validity.not_after.timestamp()),
        }
    }

    /// At two thirds of it.
    fn renew_at(self) -> u64 {
        self.from + self.to.saturating_sub(self.from) / 3 * 2
    }
}

/// An authority with its key.
struct Authority {
    /// PEM, as it is stored.
    certificate: Vec<u8>,
    key_pem: Vec<u8>,
    der: CertificateDer<'static>,
    key: KeyPair,
    life: Life,
}

impl Authority {
    fn read(certificate: &[u8], key_pem: &[u8]) -> Result<Self, &'static str> {
        let (der, key) = pair(certificate, key_pem)?;
        let parsed = parse(&der)?;
        if !parsed.is_ca() || parsed.verify_signature(None).is_err() {
            return Err("holds no authority");
        }
        let life = Life::read(&parsed);
        Ok(Self {
            certificate: certificate.to_vec(),
            key_pem: key_pem.to_vec(),
            der,
            key,
            life,
        })
    }
}

enum Other {
    None,
    Next(Box<Authority>),
    /// Its certificate, PEM.
    Previous(Vec<u8>),
}

/// What the Secret `ca` says.
struct State {
    current: Authority,
    other: Other,
    since: u64,
    rotated: Option<String>,
}

impl State {
    fn new(current: Authority, now: u64, rotated: Option<String>) -> Self {
        Self {
            current,
            other: Other::None,
            since: now,
            rotated,
        }
    }

    /// Reads it; or why there must be a new authority at once.
    fn read(stored: Option<&Stored>, now: u64) -> Result<Self, &'static str> {
        let stored = stored.ok_or("is not there")?;
        let data = &stored.data;
        let read = |certificate, key| {
            let authority = Authority::read(data.get(certificate), data.get(key))?;
            if now >= authority.life.to {
                return Err("holds an authority that has expired");
            }
            Ok(authority)
        };
        // The phase follows from the data, so that it fits them whatever became of the annotation.
        let next = read(NEXT_CERTIFICATE, NEXT_KEY);
        let (current, other) = match (read(CERTIFICATE, KEY), next) {
            (Ok(current), Ok(next)) => (current, Other::Next(Box::new(next))),
            (Ok(current), Err(_)) => {
                let previous = data.get(PREVIOUS_CERTIFICATE);
                let is_usable = certificate_of(previous)
                    .and_then(|der| parse(&der).map(|_| ()))
                    .is_ok();
                let other = if is_usable {
                    Other::Previous(previous.to_vec())
                } else {
                    Other::None
                };
                (current, other)
            }
            (Err(_), Ok(next)) => (next, Other::None),
            (Err(why), Err(_)) => return Err(why),
        };
        let since = stored
            .annotations
            .get(ROTATION_SINCE)
            .and_then(|text| text.parse::<Timestamp>().ok());
        Ok(Self {
            current,
            other,
            since: since
                .and_then(|at| u64::try_from(at.as_second()).ok())
                .unwrap_or(now),
            rotated: stored.annotations.get(ROTATED).cloned(),
        })
    }

    fn phase(&self) -> Option<Phase> {
        match self.other {
            Other::None => None,
            Other::Next(_) => Some(Phase::TrustBoth),
            Other::Previous(_) => Some(Phase::IssueNew),
        }
    }

    /// When the phase may end.
    fn ends(&self, times: &Times) -> u64 {
        let wait = match self.other {
            Other::None => Duration::ZERO,
            Other::Next(_) => times.settle,
            // Who is connected is judged again by the new bundle: no connection may be as old as the old leaf.
            Other::Previous(_) => times.settle + times.connection,
        };
        self.since + wait.as_secs().max(1)
    }

    /// Those who are to be believed, the older one first, so that only the phases' edges change it.
    fn bundle(&self) -> Vec<u8> {
        let current = self.current.certificate.as_slice();
        let both = match &self.other {
            Other::None => vec![current],
            Other::Next(next) => vec![current, &next.certificate],
            Other::Previous(previous) => vec![previous, current],
        };
        let mut bundle = Vec::new();
        for certificate in both {
            bundle.extend_from_slice(certificate.trim_ascii());
            bundle.push(b'\n');
        }
        bundle
    }

    fn content(&self) -> Stored {
        let mut content = Stored {
            data: Data::of([
                (CERTIFICATE, &self.current.certificate),
                (KEY, &self.current.key_pem),
            ]),
            ..Stored::default()
        };
        let mut annotate = |name: &str, value: String| content.annotations.insert(name.to_owned(), value);
        if let Some(rotated) = &self.rotated {
            annotate(ROTATED, rotated.clone());
        }
        if let Some(phase) = self.phase() {
            annotate(ROTATION_PHASE, phase.name().to_owned());
            let since = i64::try_from(self.since)
                .ok()
                .and_then(|at| Timestamp::from_second(at).ok());
            annotate(ROTATION_SINCE, since.unwrap_or_default().to_string());
        }
        let mut add = |key: &str, value: &[u8]| content.data.0.insert(key.to_owned(), value.to_vec());
        match &self.other {
            Other::None => {}
            Other::Next(next) => {
                add(NEXT_CERTIFICATE, &next.certificate);
                add(NEXT_KEY, &next.key_pem);
            }
            Other::Previous(previous) => {
                add(PREVIOUS_CERTIFICATE, previous);
            }
        }
        content
    }
}

/// What a leaf is to say.
struct Want {
    part: Part,
    /// Common name: for people.
    name: String,
    dns: BTreeSet<String>,
    uris: BTreeSet<String>,
    is_server: bool,
}

impl Want {
    /// Nothing for parts that are no leaf.
    fn of(part: Part, needs: &Needs) -> Option<Self> {
        let identity = names::identity(&needs.namespace, &needs.pipeline);
        let (services, uri): (&[&str], _) = match part {
            Part::CorrelatorTls => (&["correlator"], None),
            Part::StoreTls => (&["store"], None),
            // The correlator listens for sources too, behind the same Service.
            Part::IngestTls => (&["correlator", "ingest"], None),
            // One for all nodes: the pods of a DaemonSet share their Secrets.
            Part::ForwardTls => (&[], Some(format!("ja4://{identity}/forward/*"))),
            Part::OperatorTls => (&[], Some(format!("ja4://{identity}/operator"))),
            Part::Ca | Part::Trust | Part::StoreTokens | Part::RedactionKey => return None,
        };
        Some(Self {
            part,
            name: part.name(&needs.pipeline),
            dns: services
                .iter()
                .flat_map(|service| dns_names(service, needs))
                .collect(),
            uris: uri.iter().cloned().collect(),
            is_server: uri.is_none(),
        })
    }
}

/// All names by which a Service is called.
fn dns_names(service: &str, needs: &Needs) -> [String; 4] {
    let short = names::secret(&needs.pipeline, service);
    let in_namespace = format!("{short}.{}", needs.namespace);
    [
        short,
        format!("{in_namespace}.svc"),
        format!("{in_namespace}.svc.cluster.local"),
        in_namespace,
    ]
}

/// A leaf as it is stored.
struct Leaf {
    der: CertificateDer<'static>,
    life: Life,
}

impl Leaf {
    fn read(data: &Data) -> Result<Self, &'static str> {
        let (der, _) = pair(data.get(CERTIFICATE), data.get(KEY))?;
        let life = Life::read(&parse(&der)?);
        Ok(Self { der, life })
    }

    /// True if this authority has signed it.
    fn is_of(&self, issuer: &Authority) -> bool {
        let (Ok(own), Ok(issuer)) = (parse(&self.der), parse(&issuer.der)) else {
            return false;
        };
        own.issuer().as_raw() == issuer.subject().as_raw()
            && own.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// Why there must be another one.
    fn check(&self, want: &Want, issuer: &Authority, now: u64) -> Result<(), &'static str> {
        let parsed = parse(&self.der)?;
        let (mut dns, mut uris) = (BTreeSet::new(), BTreeSet::new());
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.insert((*name).to_owned()),
                GeneralName::URI(name) => uris.insert((*name).to_owned()),
                _ => return Err("has a certificate for other names"),
            };
        }
        let usage = parsed.extended_key_usage().ok().flatten();
        let is_fit = usage.is_some_and(|usage| {
            if want.is_server {
                usage.value.server_auth
            } else {
                usage.value.client_auth
            }
        });
        if dns != want.dns || uris != want.uris || !is_fit {
            return Err("has a certificate for other names");
        }
        if !self.is_of(issuer) {
            return Err("has a certificate of another authority");
        }
        if now < self.life.from {
            return Err("has a certificate that is not valid yet");
        }
        if now >= self.life.renew_at() {
            return Err("has a certificate at two thirds of its life");
        }
        Ok(())
    }
}

/// A certificate and the key that it is for.
fn pair(certificate: &[u8], key: &[u8]) -> Result<(CertificateDer<'static>, KeyPair), &'static str> {
    let der = certificate_of(certificate)?;
    let key = std::str::from_utf8(key)
        .ok()
        .and_then(|pem| KeyPair::from_pem(pem).ok());
    let key = key.ok_or("has no key that can be read")?;
    if parse(&der)?.public_key().raw != key.subject_public_key_info() {
        return Err("has a key that is not the certificate's");
    }
    Ok((der, key))
}

/// The one certificate of a PEM text.
fn certificate_of(pem: &[u8]) -> Result<CertificateDer<'static>, &'static str> {
    let mut found = CertificateDer::pem_slice_iter(pem);
    match (found.next(), found.next()) {
        (Some(Ok(der)), None) => Ok(der),
        _ => Err("has no certificate that can be read"),
    }
}

fn parse<'d>(der: &'d CertificateDer<'_>) -> Result<X509Certificate<'d>, &'static str> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("has no certificate that can be read"),
    }
}

#[cfg(test)]
mod tests;
