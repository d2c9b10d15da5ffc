//! Rows as the queries give them; names and order as in the files of `schema/queries`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// An address as people write it: IPv4 without the `::ffff:` of the store.
pub(crate) fn plain_ip(text: &str) -> String {
    match text.parse::<std::net::Ipv6Addr>() {
        Ok(v6) => v6
            .to_ipv4_mapped()
            .map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        Err(_) => text.to_owned(),
    }
}

fn ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| plain_ip(&text))
}

fn nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::<f64>::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
}

#[derive(Debug, Deserialize)]
pub(crate) struct TrafficRow {
    pub(crate) bucket: i64,
    pub(crate) n_requests: u64,
    pub(crate) n_2xx: u64,
    pub(crate) n_3xx: u64,
    pub(crate) n_4xx: u64,
    pub(crate) n_5xx: u64,
    pub(crate) n_bytes: u64,
    pub(crate) n_joined: u64,
    pub(crate) n_secure: u64,
    pub(crate) n_h2: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HistogramRow {
    pub(crate) bucket: i64,
    pub(crate) n_requests: u64,
    pub(crate) n_errors: u64,
    pub(crate) n_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct TotalsRow {
    pub(crate) n_requests: u64,
    pub(crate) n_errors: u64,
    pub(crate) n_bytes: u64,
    pub(crate) n_clients: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ClientsTotalRow {
    pub(crate) n_clients: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct JoinReasonRow {
    pub(crate) found: String,
    pub(crate) why: String,
    pub(crate) n_requests: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LossRow {
    pub(crate) source: String,
    pub(crate) node: String,
    pub(crate) reason: String,
    pub(crate) n_events: u64,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ClientCountsRow {
    pub(crate) n_scored: u64,
    pub(crate) n_flagged: u64,
    pub(crate) n_alert: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LabelCountRow {
    pub(crate) label: String,
    pub(crate) n_clients: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NoveltyRow {
    pub(crate) new_kind: String,
    pub(crate) on_host: String,
    pub(crate) first_value: String,
    pub(crate) first_seen_at: String,
    pub(crate) n_requests: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FacetRow {
    pub(crate) dim: String,
    pub(crate) value: String,
    pub(crate) n_requests: u64,
    pub(crate) n_errors: u64,
    pub(crate) n_clients: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ValueRow {
    pub(crate) value: String,
    pub(crate) n_requests: u64,
    pub(crate) n_clients: u64,
}

/// A client that a list has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) entity_id: u64,
    #[serde(alias = "ip", deserialize_with = "ip")]
    pub(crate) src_ip: String,
    #[serde(alias = "client_ja4")]
    pub(crate) ja4: String,
    #[serde(alias = "client_host")]
    pub(crate) host: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ClientSeenRow {
    pub(crate) id: u64,
    pub(crate) n_requests: u64,
    pub(crate) n_errors: u64,
    pub(crate) n_bytes: u64,
    pub(crate) first_seen_at: String,
    pub(crate) last_seen_at: String,
    pub(crate) country: String,
    pub(crate) asn: u32,
    pub(crate) ua_family: String,
    pub(crate) as_name: String,
    pub(crate) crawler: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VoiceRow {
    pub(crate) voice: String,
    pub(crate) raw: Option<f64>,
    pub(crate) p_value: Option<f64>,
    #[serde(deserialize_with = "nan")]
    pub(crate) contribution: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReasonRow {
    pub(crate) voice: String,
    pub(crate) feature: String,
    pub(crate) value: Option<f64>,
    pub(crate) median: Option<f64>,
    pub(crate) percentile: Option<f64>,
    #[serde(deserialize_with = "nan")]
    pub(crate) contribution: f64,
    pub(crate) declared: String,
    pub(crate) observed: String,
    pub(crate) source: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModelRow {
    pub(crate) id: u64,
    pub(crate) model: String,
    pub(crate) model_version: u32,
    pub(crate) state: String,
    pub(crate) population: String,
    pub(crate) window_end_at: String,
    pub(crate) n_requests: u64,
    #[serde(deserialize_with = "nan")]
    pub(crate) combined: f64,
    #[serde(deserialize_with = "nan")]
    pub(crate) evidence: f64,
    pub(crate) all_voices: Vec<VoiceRow>,
    pub(crate) why: Vec<ReasonRow>,
    pub(crate) decided: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FlagRow {
    pub(crate) id: u64,
    pub(crate) model: String,
    pub(crate) limit_score: Option<f64>,
    pub(crate) since: String,
    pub(crate) incident: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LabelRow {
    pub(crate) id: u64,
    #[serde(deserialize_with = "ip")]
    pub(crate) src_ip: String,
    pub(crate) ja4: String,
    pub(crate) host: String,
    pub(crate) version: u64,
    pub(crate) label: String,
    pub(crate) note: String,
    pub(crate) author: String,
    pub(crate) expires_s: i64,
    pub(crate) act_id: String,
    pub(crate) holds: u8,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VectorRow {
    #[serde(deserialize_with = "ip")]
    pub(crate) src_ip: String,
    pub(crate) ja4: String,
    pub(crate) host: String,
    pub(crate) model_name: String,
    pub(crate) model_version: u32,
    pub(crate) feature_set: String,
    pub(crate) features: Vec<Option<f64>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IncidentRow {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) severity: String,
    pub(crate) opened_at: String,
    pub(crate) last_alert_at: String,
}

/// Value, whether it is longer, requests.
pub(crate) type ShownRow = (String, u8, u64);

/// As [`ShownRow`], and the hash that stands for the value.
pub(crate) type HashedRow = (String, u8, u64, String);

#[derive(Debug, Deserialize)]
pub(crate) struct FactsRow {
    pub(crate) n_requests: u64,
    pub(crate) n_paths: u64,
    pub(crate) n_connections: u64,
    pub(crate) user_agents: Vec<ShownRow>,
    pub(crate) header_orders: Vec<HashedRow>,
    pub(crate) h2_fps: Vec<ShownRow>,
    pub(crate) http_versions: Vec<ShownRow>,
    pub(crate) methods: Vec<ShownRow>,
    pub(crate) statuses: Vec<ShownRow>,
    pub(crate) paths: Vec<ShownRow>,
    pub(crate) matches: Vec<ShownRow>,
    pub(crate) contradicting: Vec<ShownRow>,
    pub(crate) one_ja4_norm: String,
    pub(crate) one_ja3: String,
    pub(crate) one_alpn: String,
    pub(crate) one_tls_version: String,
    pub(crate) one_sni: String,
    pub(crate) flags_or: u32,
    pub(crate) flags_and: u32,
    pub(crate) tcp: (u8, u16, u16, u8, String),
}

#[derive(Debug, Deserialize)]
pub(crate) struct SiblingRow {
    pub(crate) ja4: String,
    pub(crate) host: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ScoreRow {
    pub(crate) window_end: String,
    pub(crate) model_name: String,
    pub(crate) model_version: u32,
    pub(crate) requests: u64,
    #[serde(deserialize_with = "nan")]
    pub(crate) score: f64,
    #[serde(deserialize_with = "nan")]
    pub(crate) evidence_bits: f64,
    pub(crate) voices: Vec<VoiceRow>,
    pub(crate) decided: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DetectionRow {
    pub(crate) detected_at: String,
    pub(crate) model_name: String,
    #[serde(deserialize_with = "nan")]
    pub(crate) evidence_bits: f64,
    pub(crate) severity: String,
    pub(crate) reasons: Vec<ReasonRow>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NumbersRow {
    pub(crate) numbers: Vec<Option<f64>>,
    pub(crate) population: u64,
    pub(crate) medians: Vec<Option<f64>>,
    pub(crate) shares: Vec<Option<f64>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FeatureNamesRow {
    pub(crate) feature_set: String,
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RecurrenceRow {
    pub(crate) days_flagged: u32,
    pub(crate) entities_flagged: u64,
    pub(crate) first_flagged_at: String,
    pub(crate) last_flagged_at: String,
    #[serde(deserialize_with = "nan")]
    pub(crate) score_max: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryRow {
    pub(crate) act_id: String,
    pub(crate) version: u64,
    #[serde(deserialize_with = "ip")]
    pub(crate) src_ip: String,
    pub(crate) ja4: String,
    pub(crate) host: String,
    pub(crate) label: String,
    pub(crate) before_label: String,
    pub(crate) words: String,
    pub(crate) author: String,
    pub(crate) expires_s: i64,
    pub(crate) deleted: u8,
    pub(crate) undoes: String,
    pub(crate) model_name: String,
    pub(crate) model_version: u32,
    pub(crate) undone: u8,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ActRow {
    #[serde(deserialize_with = "ip")]
    pub(crate) ip: String,
    pub(crate) client_ja4: String,
    pub(crate) client_host: String,
    pub(crate) took_back: String,
    pub(crate) now_act_id: String,
    pub(crate) before_version: u64,
    pub(crate) before_label_set: String,
    pub(crate) before_note: String,
    pub(crate) before_expires_s: i64,
    pub(crate) before_deleted: u8,
    pub(crate) before_model_name: String,
    pub(crate) before_model_version: u32,
    pub(crate) before_feature_set: String,
    pub(crate) before_features: Vec<Option<f64>>,
    pub(crate) act_label: String,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct HitsRow {
    pub(crate) n_requests: u64,
    pub(crate) n_clients: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LegitimateRow {
    #[serde(deserialize_with = "ip")]
    pub(crate) ip: String,
    pub(crate) client_ja4: String,
    pub(crate) client_host: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SeenRow {
    pub(crate) on_host: String,
    pub(crate) first_seen_at: String,
    pub(crate) last_seen_at: String,
    pub(crate) n_requests: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamesRow {
    pub(crate) names: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GroupScoreRow {
    pub(crate) window_end: String,
    pub(crate) model_name: String,
    pub(crate) clients: u32,
    pub(crate) requests: u64,
    #[serde(deserialize_with = "nan")]
    pub(crate) score: f64,
    pub(crate) reasons: Vec<ReasonRow>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CycleRow {
    pub(crate) started_at: String,
    pub(crate) window_end: String,
    pub(crate) duration_ms: u32,
    pub(crate) entities: u64,
    pub(crate) scored: u64,
    pub(crate) flagged: u64,
    pub(crate) alerts: u64,
    pub(crate) error: String,
    pub(crate) state: String,
    pub(crate) model_states: BTreeMap<String, String>,
    pub(crate) progress: BTreeMap<String, Option<f64>>,
    pub(crate) budget: u32,
    pub(crate) budget_used: u32,
    pub(crate) suppressed: u64,
    pub(crate) labels_seen: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DataSpanRow {
    pub(crate) n: u64,
    pub(crate) first_minute: String,
    pub(crate) last_minute: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RequestRowRow {
    pub(crate) at: String,
    #[serde(deserialize_with = "ip")]
    pub(crate) ip: String,
    pub(crate) port: u16,
    pub(crate) client_ja4: String,
    pub(crate) asked_host: String,
    pub(crate) verb: String,
    pub(crate) asked_path: String,
    pub(crate) asked_query: String,
    pub(crate) answer: u16,
    pub(crate) n_bytes: u64,
    pub(crate) took_us: u32,
    pub(crate) agent: String,
    pub(crate) family: String,
    pub(crate) from_country: String,
    pub(crate) from_asn: u32,
    pub(crate) found: String,
    pub(crate) id_boot: u64,
    pub(crate) id_seq: u64,
    pub(crate) cut: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ColumnRow {
    pub(crate) name: String,
    pub(crate) comment: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuditRow {
    pub(crate) at: String,
    pub(crate) user_name: String,
    pub(crate) act: String,
    pub(crate) object: String,
    pub(crate) detail: String,
    #[serde(deserialize_with = "ip")]
    pub(crate) remote_ip: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UserRow {
    pub(crate) role: String,
    pub(crate) password_hash: String,
    pub(crate) disabled: u8,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UserListRow {
    pub(crate) user_name: String,
    pub(crate) role: String,
    pub(crate) has_password: u8,
    pub(crate) disabled: u8,
}
