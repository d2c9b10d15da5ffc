//! Rows that the detector writes, encoded as RowBinary: scores, detections, current states, groups, cycles, models, incidents.
//!
//! Unlike the correlator's blocks these are few and nested, so they are written row by row. A row's `write` follows the order of
//! its `COLUMNS`; a test writes one of each into a real store and reads it back.

use ja4_model::CanonicalAddr;

/// A row of one table.
pub trait DetectionRow {
    /// Table, in the database of what was made of it.
    const TABLE: &'static str;
    /// Columns, in the order of `write`.
    const COLUMNS: &'static [&'static str];

    /// Appends the row as RowBinary.
    fn write(&self, out: &mut Vec<u8>);

    /// The statement that takes rows as its body.
    fn insert_sql(processing: &str) -> String {
        let columns: Vec<String> = Self::COLUMNS.iter().map(|name| format!("`{name}`")).collect();
        format!(
            "INSERT INTO `{processing}`.`{}` ({}) FORMAT RowBinary",
            Self::TABLE,
            columns.join(", ")
        )
    }
}

/// One reason, as the tuple of the tables.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(
    missing_docs,
    reason = "each is a field of the tuple, documented at the column"
)]
pub struct ReasonTuple {
    pub voice: String,
    pub feature: String,
    pub value: f64,
    pub median: f64,
    pub percentile: f32,
    pub contribution: f32,
    pub declared: String,
    pub observed: String,
    pub source: String,
}

/// One voice, as the tuple of the tables.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(
    missing_docs,
    reason = "each is a field of the tuple, documented at the column"
)]
pub struct VoiceTuple {
    pub voice: &'static str,
    pub raw: f32,
    pub p_value: f32,
    pub contribution: f32,
}

/// Who: the three that make a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Address.
    pub src_ip: CanonicalAddr,
    /// JA4, empty without.
    pub ja4: String,
    /// Host.
    pub host: String,
    /// The three as one number.
    pub entity_id: u64,
}

/// What a model said of a client: shared by three tables.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct Verdict {
    pub model_name: String,
    pub model_version: u32,
    pub model_state: &'static str,
    pub segment: &'static str,
    pub score: f32,
    pub evidence_bits: f32,
    pub voices: Vec<VoiceTuple>,
    pub reasons: Vec<ReasonTuple>,
}

/// `ml_all_scores`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct ScoreRow<'a> {
    pub window_end_s: u32,
    pub client: &'a ClientKey,
    pub said: &'a Verdict,
    pub requests: u32,
    pub feature_set: &'a str,
    pub features: &'a [f32],
    /// 0 normal, 1 flagged, 2 alert.
    pub verdict: i8,
}

impl DetectionRow for ScoreRow<'_> {
    const TABLE: &'static str = "ml_all_scores";
    const COLUMNS: &'static [&'static str] = &[
        "window_end",
        "model_name",
        "model_version",
        "model_state",
        "segment",
        "src_ip",
        "ja4",
        "host",
        "requests",
        "score",
        "evidence_bits",
        "voices",
        "feature_set",
        "features",
        "reasons",
        "verdict",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.window_end_s.to_le_bytes());
        self.said.write_model(out);
        text(out, self.said.model_state);
        text(out, self.said.segment);
        self.client.write(out);
        out.extend_from_slice(&self.requests.to_le_bytes());
        self.said.write_score(out);
        voices(out, &self.said.voices);
        text(out, self.feature_set);
        floats(out, self.features);
        reasons(out, &self.said.reasons);
        out.extend_from_slice(&self.verdict.to_le_bytes());
    }
}

/// `ml_detection_events`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct DetectionEventRow<'a> {
    pub detected_at_us: i64,
    pub detection_id: u128,
    pub client: &'a ClientKey,
    pub said: &'a Verdict,
    pub cycle_id: u128,
    pub window_end_s: u32,
    pub severity: i8,
    pub feature_set: &'a str,
    pub features: &'a [f32],
}

impl DetectionRow for DetectionEventRow<'_> {
    const TABLE: &'static str = "ml_detection_events";
    const COLUMNS: &'static [&'static str] = &[
        "detected_at",
        "detection_id",
        "src_ip",
        "ja4",
        "host",
        "entity_id",
        "model_name",
        "model_version",
        "segment",
        "cycle_id",
        "window_end",
        "score",
        "evidence_bits",
        "severity",
        "voices",
        "feature_set",
        "features",
        "reasons",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.detected_at_us.to_le_bytes());
        uuid(out, self.detection_id);
        self.client.write(out);
        out.extend_from_slice(&self.client.entity_id.to_le_bytes());
        self.said.write_model(out);
        text(out, self.said.segment);
        uuid(out, self.cycle_id);
        out.extend_from_slice(&self.window_end_s.to_le_bytes());
        self.said.write_score(out);
        out.extend_from_slice(&self.severity.to_le_bytes());
        voices(out, &self.said.voices);
        text(out, self.feature_set);
        floats(out, self.features);
        reasons(out, &self.said.reasons);
    }
}

/// `ml_detected_anomalies`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct AnomalyRow<'a> {
    pub client: &'a ClientKey,
    pub said: &'a Verdict,
    pub version: u64,
    pub detected_at_us: i64,
    pub first_detected_at_us: i64,
    pub cycles_flagged: u32,
    pub window_start_s: u32,
    pub window_end_s: u32,
    pub threshold: f32,
    pub severity: i8,
    /// 1 flagged, 2 alert.
    pub state: i8,
    pub requests: u64,
    pub incident_id: u128,
}

impl DetectionRow for AnomalyRow<'_> {
    const TABLE: &'static str = "ml_detected_anomalies";
    const COLUMNS: &'static [&'static str] = &[
        "src_ip",
        "ja4",
        "host",
        "entity_id",
        "model_name",
        "model_version",
        "model_state",
        "segment",
        "version",
        "detected_at",
        "first_detected_at",
        "cycles_flagged",
        "window_start",
        "window_end",
        "score",
        "evidence_bits",
        "threshold",
        "severity",
        "state",
        "requests",
        "incident_id",
        "voices",
        "reasons",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        self.client.write(out);
        out.extend_from_slice(&self.client.entity_id.to_le_bytes());
        self.said.write_model(out);
        text(out, self.said.model_state);
        text(out, self.said.segment);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.detected_at_us.to_le_bytes());
        out.extend_from_slice(&self.first_detected_at_us.to_le_bytes());
        out.extend_from_slice(&self.cycles_flagged.to_le_bytes());
        out.extend_from_slice(&self.window_start_s.to_le_bytes());
        out.extend_from_slice(&self.window_end_s.to_le_bytes());
        self.said.write_score(out);
        out.extend_from_slice(&self.threshold.to_le_bytes());
        out.extend_from_slice(&self.severity.to_le_bytes());
        out.extend_from_slice(&self.state.to_le_bytes());
        out.extend_from_slice(&self.requests.to_le_bytes());
        uuid(out, self.incident_id);
        voices(out, &self.said.voices);
        reasons(out, &self.said.reasons);
    }
}

/// `ml_group_scores`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct GroupScoreRow {
    pub window_end_s: u32,
    pub group_kind: &'static str,
    pub group_value: String,
    pub model_name: String,
    pub model_version: u32,
    pub clients: u32,
    pub requests: u64,
    pub score: f32,
    pub reasons: Vec<ReasonTuple>,
}

impl DetectionRow for GroupScoreRow {
    const TABLE: &'static str = "ml_group_scores";
    const COLUMNS: &'static [&'static str] = &[
        "window_end",
        "group_kind",
        "group_value",
        "model_name",
        "model_version",
        "clients",
        "requests",
        "score",
        "reasons",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.window_end_s.to_le_bytes());
        text(out, self.group_kind);
        text(out, &self.group_value);
        text(out, &self.model_name);
        out.extend_from_slice(&self.model_version.to_le_bytes());
        out.extend_from_slice(&self.clients.to_le_bytes());
        out.extend_from_slice(&self.requests.to_le_bytes());
        out.extend_from_slice(&self.score.to_le_bytes());
        reasons(out, &self.reasons);
    }
}

/// `ml_cycles`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct CycleRow {
    pub started_at_us: i64,
    pub cycle_id: u128,
    pub window_end_s: u32,
    pub duration_ms: u32,
    pub entities: u64,
    pub scored: u64,
    pub skipped: Vec<(String, u64)>,
    pub flagged: u64,
    pub alerts: u64,
    pub labels_seen: u64,
    pub cpu_ms: u32,
    pub suppressed: u64,
    pub suppressed_by_label: u64,
    pub budget_used: u32,
    pub budget: u32,
    pub progress: Vec<(String, f64)>,
    pub model_states: Vec<(String, String)>,
    pub state: String,
    pub thresholds: Vec<(String, f32)>,
    pub error: String,
}

impl DetectionRow for CycleRow {
    const TABLE: &'static str = "ml_cycles";
    const COLUMNS: &'static [&'static str] = &[
        "started_at",
        "cycle_id",
        "window_end",
        "duration_ms",
        "entities",
        "scored",
        "skipped",
        "flagged",
        "alerts",
        "labels_seen",
        "cpu_ms",
        "suppressed",
        "suppressed_by_label",
        "budget_used",
        "budget",
        "progress",
        "model_states",
        "state",
        "thresholds",
        "error",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.started_at_us.to_le_bytes());
        uuid(out, self.cycle_id);
        out.extend_from_slice(&self.window_end_s.to_le_bytes());
        out.extend_from_slice(&self.duration_ms.to_le_bytes());
        out.extend_from_slice(&self.entities.to_le_bytes());
        out.extend_from_slice(&self.scored.to_le_bytes());
        map(out, &self.skipped, |out, n| {
            out.extend_from_slice(&n.to_le_bytes());
        });
        out.extend_from_slice(&self.flagged.to_le_bytes());
        out.extend_from_slice(&self.alerts.to_le_bytes());
        out.extend_from_slice(&self.labels_seen.to_le_bytes());
        out.extend_from_slice(&self.cpu_ms.to_le_bytes());
        out.extend_from_slice(&self.suppressed.to_le_bytes());
        out.extend_from_slice(&self.suppressed_by_label.to_le_bytes());
        out.extend_from_slice(&self.budget_used.to_le_bytes());
        out.extend_from_slice(&self.budget.to_le_bytes());
        map(out, &self.progress, |out, n| {
            out.extend_from_slice(&n.to_le_bytes());
        });
        map(out, &self.model_states, |out, state| text(out, state));
        text(out, &self.state);
        map(out, &self.thresholds, |out, n| {
            out.extend_from_slice(&n.to_le_bytes());
        });
        text(out, &self.error);
    }
}

/// `soc_incidents`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct IncidentRow {
    pub incident_id: u128,
    pub version: u64,
    pub opened_at_us: i64,
    pub last_alert_at_us: i64,
    pub status: String,
    pub severity: String,
    pub title: String,
    pub group_kind: String,
    pub group_value: String,
    pub assignee: String,
    pub note: String,
}

impl DetectionRow for IncidentRow {
    const TABLE: &'static str = "soc_incidents";
    const COLUMNS: &'static [&'static str] = &[
        "incident_id",
        "version",
        "opened_at",
        "last_alert_at",
        "status",
        "severity",
        "title",
        "group_kind",
        "group_value",
        "assignee",
        "note",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        uuid(out, self.incident_id);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.opened_at_us.to_le_bytes());
        out.extend_from_slice(&self.last_alert_at_us.to_le_bytes());
        for value in [
            &self.status,
            &self.severity,
            &self.title,
            &self.group_kind,
            &self.group_value,
            &self.assignee,
            &self.note,
        ] {
            text(out, value);
        }
    }
}

/// `ml_models`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct ModelRow {
    pub model_name: String,
    pub model_version: u32,
    pub trained_at_s: u32,
    pub window_start_s: u32,
    pub window_end_s: u32,
    pub n_rows: u64,
    pub n_excluded: u64,
    pub metrics: Vec<(String, f64)>,
    pub feature_set: String,
    pub feature_names: Vec<String>,
    pub seed: u64,
    pub format: u16,
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub blob: Vec<u8>,
}

impl DetectionRow for ModelRow {
    const TABLE: &'static str = "ml_models";
    const COLUMNS: &'static [&'static str] = &[
        "model_name",
        "model_version",
        "trained_at",
        "window_start",
        "window_end",
        "n_rows",
        "n_excluded",
        "metrics",
        "feature_set",
        "feature_names",
        "seed",
        "format",
        "sha256",
        "blob",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        text(out, &self.model_name);
        for number in [
            self.model_version,
            self.trained_at_s,
            self.window_start_s,
            self.window_end_s,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.n_rows.to_le_bytes());
        out.extend_from_slice(&self.n_excluded.to_le_bytes());
        map(out, &self.metrics, |out, n| {
            out.extend_from_slice(&n.to_le_bytes());
        });
        text(out, &self.feature_set);
        length(out, self.feature_names.len());
        self.feature_names.iter().for_each(|name| text(out, name));
        out.extend_from_slice(&self.seed.to_le_bytes());
        out.extend_from_slice(&self.format.to_le_bytes());
        // FixedString(64): exactly so many bytes.
        let mut digest = self.sha256.clone().into_bytes();
        digest.resize(64, b'0');
        out.extend_from_slice(&digest);
        length(out, self.blob.len());
        out.extend_from_slice(&self.blob);
    }
}

/// `ml_model_activations`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is a column, documented there")]
pub struct ActivationRow {
    pub model_name: String,
    pub activated_at_us: i64,
    pub model_version: u32,
    pub armed: bool,
    pub author: String,
    pub reason: String,
}

impl DetectionRow for ActivationRow {
    const TABLE: &'static str = "ml_model_activations";
    const COLUMNS: &'static [&'static str] = &[
        "model_name",
        "activated_at",
        "model_version",
        "armed",
        "author",
        "reason",
    ];

    fn write(&self, out: &mut Vec<u8>) {
        text(out, &self.model_name);
        out.extend_from_slice(&self.activated_at_us.to_le_bytes());
        out.extend_from_slice(&self.model_version.to_le_bytes());
        out.push(u8::from(self.armed));
        text(out, &self.author);
        text(out, &self.reason);
    }
}

impl ClientKey {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.src_ip.0);
        text(out, &self.ja4);
        text(out, &self.host);
    }
}

impl Verdict {
    fn write_model(&self, out: &mut Vec<u8>) {
        text(out, &self.model_name);
        out.extend_from_slice(&self.model_version.to_le_bytes());
    }

    fn write_score(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.score.to_le_bytes());
        out.extend_from_slice(&self.evidence_bits.to_le_bytes());
    }
}

fn length(out: &mut Vec<u8>, n: usize) {
    crate::native::write_varint(out, n as u64);
}

fn text(out: &mut Vec<u8>, text: &str) {
    crate::native::write_bytes(out, text.as_bytes());
}

fn floats(out: &mut Vec<u8>, values: &[f32]) {
    length(out, values.len());
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// High half first, each little-endian: the engine's layout of a UUID.
fn uuid(out: &mut Vec<u8>, id: u128) {
    for half in [id >> 64, id & u128::from(u64::MAX)] {
        out.extend_from_slice(&u64::try_from(half).expect("half of 128 bits").to_le_bytes());
    }
}

fn map<T>(out: &mut Vec<u8>, pairs: &[(String, T)], mut value: impl FnMut(&mut Vec<u8>, &T)) {
    length(out, pairs.len());
    for (key, item) in pairs {
        text(out, key);
        value(out, item);
    }
}

fn voices(out: &mut Vec<u8>, voices: &[VoiceTuple]) {
    length(out, voices.len());
    for voice in voices {
        text(out, voice.voice);
        for number in [voice.raw, voice.p_value, voice.contribution] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn reasons(out: &mut Vec<u8>, reasons: &[ReasonTuple]) {
    length(out, reasons.len());
    for reason in reasons {
        text(out, &reason.voice);
        text(out, &reason.feature);
        out.extend_from_slice(&reason.value.to_le_bytes());
        out.extend_from_slice(&reason.median.to_le_bytes());
        out.extend_from_slice(&reason.percentile.to_le_bytes());
        out.extend_from_slice(&reason.contribution.to_le_bytes());
        text(out, &reason.declared);
        text(out, &reason.observed);
        text(out, &reason.source);
    }
}
