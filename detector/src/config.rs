//! Configuration of the detector: one documented struct, every key with its default.

use ja4_common::clickhouse::StoreConfig;
use ja4_common::config::ProcessConfig;
use ja4_common::units::Span;
use serde::{Deserialize, Serialize};

use crate::assess::Policy;
use crate::state::Needs;
use crate::training::Limits;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorConfig {
    /// Log, admin endpoint (which is the detector's HTTP address), ledger file.
    pub process: ProcessConfig,
    /// The store.
    pub store: StoreConfig,
    /// Time from one cycle to the next, whole seconds; default 5m. Windows end on multiples of it.
    pub interval: Span,
    /// How long after a window's end it is read, so that rows on their way arrive; default 5s.
    pub settle: Span,
    /// Score the last 24 hours beside the last hour; default true.
    pub multiwindow: bool,
    /// Parts in which a window is read and written, 1 to 64; more take less memory in store and detector; default 4.
    pub shards: u8,
    /// Threads for fitting and scoring; default 1.
    pub threads: usize,
    /// New incidents a day, at most: a ceiling, never a quota; default 20.
    pub alert_budget_per_day: u32,
    /// Bits of consistency evidence that flag a client in any state; default 10.
    pub consistency_floor_bits: f32,
    /// Least bits of all evidence that flag a client of an armed model; default 10.
    pub evidence_floor_bits: f32,
    /// Most clients of a window that are explained feature by feature, strongest first; flagged ones always are. About 15 µs each;
    /// default 50000.
    pub explain_max: usize,
    /// When a model is trained, provisional, armed.
    pub state: Needs,
    /// What a model is trained on, and when again.
    pub training: TrainingConfig,
    /// Seed of everything random; default 0.
    pub seed: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            store: StoreConfig {
                user: "detector".to_owned(),
                ..StoreConfig::default()
            },
            interval: Span::seconds(300),
            settle: Span::seconds(5),
            multiwindow: true,
            shards: 4,
            threads: 1,
            alert_budget_per_day: 20,
            consistency_floor_bits: ja4_identity::weights::FLOOR_BITS,
            evidence_floor_bits: 10.0,
            explain_max: 50_000,
            state: Needs::default(),
            training: TrainingConfig::default(),
            seed: 0,
        }
    }
}

/// Training.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Age at which a model is trained again; default 24h.
    pub retrain_after: Span,
    /// Clients that a segment needs for a model of its own; below it falls back on `all`; default 200.
    pub segment_min: usize,
    /// Largest share of clients left out because they were flagged; default 0.1.
    pub flagged_share: f64,
    /// How long a flag keeps a client out; default 24h.
    pub flagged_expire: Span,
    /// Largest share of clients of one pair of JA4 and network; default 0.01.
    pub pair_share: f64,
    /// Most clients that a model is trained on; half of them calibrate it; default 8192.
    pub rows_max: usize,
    /// A trained model whose alert rate on held-back clients is more than so many times its predecessor's is refused; default 2.
    pub refuse_factor: f64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            retrain_after: Span::seconds(86_400),
            segment_min: 200,
            flagged_share: limits.flagged_share,
            flagged_expire: Span::seconds(86_400),
            pair_share: limits.pair_share,
            rows_max: limits.rows,
            refuse_factor: 2.0,
        }
    }
}

impl DetectorConfig {
    /// Checks what types do not.
    ///
    /// # Errors
    /// One line that names the key and the remedy.
    pub fn check(&self) -> Result<(), String> {
        let whole = self.interval.0.subsec_nanos() == 0 && self.interval.0.as_secs() >= 1;
        if !whole {
            return Err(format!(
                "interval {} must be whole seconds, at least 1s",
                self.interval
            ));
        }
        if self.store.user == "writer" {
            return Err(
                "store.user writer may not read what was written: set store.user to detector".to_owned(),
            );
        }
        if !(1..=64).contains(&self.shards) {
            return Err(format!("shards {} must be 1 to 64", self.shards));
        }
        if !(1..=256).contains(&self.threads) {
            return Err(format!("threads {} must be 1 to 256", self.threads));
        }
        for (key, share) in [
            ("training.flagged_share", self.training.flagged_share),
            ("training.pair_share", self.training.pair_share),
            ("state.stable_share", self.state.stable_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{key} {share} must be 0 to 1"));
            }
        }
        for (key, bits) in [
            ("consistency_floor_bits", self.consistency_floor_bits),
            ("evidence_floor_bits", self.evidence_floor_bits),
        ] {
            if !(bits > 0.0 && bits.is_finite()) {
                return Err(format!(
                    "{key} {bits} must be more than 0: nothing is no evidence"
                ));
            }
        }
        if self.training.refuse_factor.is_nan() || self.training.refuse_factor < 1.0 {
            return Err("training.refuse_factor must be at least 1".to_owned());
        }
        Ok(())
    }

    /// What verdicts need.
    pub fn policy(&self) -> Policy {
        Policy {
            consistency_floor: self.consistency_floor_bits,
            evidence_floor: self.evidence_floor_bits,
            min_requests: u32::try_from(self.state.requests).unwrap_or(u32::MAX),
            budget: self.alert_budget_per_day,
            explain_max: self.explain_max,
        }
    }

    /// What the selection of training rows needs.
    pub fn limits(&self) -> Limits {
        Limits {
            flagged_share: self.training.flagged_share,
            pair_share: self.training.pair_share,
            rows: self.training.rows_max,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples/detector.yaml");
        let mut sample: DetectorConfig = ja4_common::config::load(&path).unwrap();
        sample.check().unwrap();
        assert!(sample.process.admin.is_some() && sample.store.token_file.is_some());
        sample.process = ProcessConfig::default();
        sample.store.token_file = None;
        let text = |config: &DetectorConfig| ja4_common::config::print(config).unwrap();
        assert_eq!(text(&sample), text(&DetectorConfig::default()));
    }

    #[test]
    fn nonsense_is_refused_with_the_key() {
        let refused = |change: fn(&mut DetectorConfig)| {
            let mut config = DetectorConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(refused(|c| c.interval = Span::millis(500)).contains("interval"));
        assert!(refused(|c| c.shards = 0).contains("shards"));
        assert!(refused(|c| c.consistency_floor_bits = 0.0).contains("consistency_floor_bits"));
        assert!(refused(|c| c.training.flagged_share = 1.5).contains("training.flagged_share"));
        assert!(refused(|c| c.training.refuse_factor = f64::NAN).contains("refuse_factor"));
    }
}
