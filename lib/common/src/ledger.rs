//! The ledger: what each stage received, passed on, dropped by reason and still holds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One stage. Its equation: `received = passed + dropped + pending`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stage {
    /// Such as `sensor.frames` or `correlator.input.network`.
    pub name: String,
    /// What came in.
    pub received: u64,
    /// What went out.
    pub passed: u64,
    /// What was let go, by reason. Reasons that never happened are absent.
    pub dropped: BTreeMap<String, u64>,
    /// What is still inside.
    pub pending: u64,
}

impl Stage {
    /// A stage that has seen nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds to a reason; nothing for 0.
    pub fn drop_for(&mut self, reason: impl Into<String>, n: u64) {
        if n > 0 {
            *self.dropped.entry(reason.into()).or_insert(0) += n;
        }
    }

    /// What was let go in all.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Received minus all that is accounted for: 0 when the equation holds.
    pub fn imbalance(&self) -> i128 {
        i128::from(self.received)
            - i128::from(self.passed)
            - i128::from(self.dropped_total())
            - i128::from(self.pending)
    }

    /// Adds the counts of another incarnation of the same stage.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.passed += other.passed;
        self.pending += other.pending;
        for (reason, n) in &other.dropped {
            self.drop_for(reason.clone(), *n);
        }
    }
}

/// What one process has to say: its stages, and facts beside them by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// In the order of the path.
    pub stages: Vec<Stage>,
    /// Facts for the summary, such as `joined`.
    #[serde(default)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

impl Ledger {
    /// The stages whose equation does not hold, with what is missing (positive) or too much.
    pub fn imbalances(&self) -> Vec<(&str, i128)> {
        self.stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.imbalance()))
            .filter(|(_, imbalance)| *imbalance != 0)
            .collect()
    }
}

/// Writes the ledger to a file, whole or not at all.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_file(path: &Path, ledger: &Ledger) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    serde_json::to_writer(&mut file, ledger)?;
    file.write_all(b"\n")?;
    std::fs::rename(&temporary, path)
}

/// A ledger's file that is written again and again: that it cannot be written is said once, not each time.
#[derive(Debug)]
pub struct LedgerFile {
    path: PathBuf,
    has_failed: bool,
}

impl LedgerFile {
    /// The file at `path`; nothing is written yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            has_failed: false,
        }
    }

    /// Writes the ledger as it is now.
    pub fn refresh(&mut self, ledger: &Ledger) {
        let result = write_file(&self.path, ledger);
        if let (Err(error), false) = (&result, self.has_failed) {
            tracing::warn!("ledger file {:?} cannot be written: {error}", self.path);
        }
        self.has_failed = result.is_err();
    }
}

/// Reads what [`write_file`] wrote.
///
/// # Errors
/// If there is no such file or it is not a ledger.
pub fn read_file(path: &Path) -> std::io::Result<Ledger> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_balances_when_all_is_accounted_for() {
        let mut stage = Stage {
            received: 10,
            passed: 6,
            pending: 1,
            ..Stage::new("x")
        };
        stage.drop_for("full", 2);
        assert_eq!(stage.imbalance(), 1);
        stage.drop_for("full", 1);
        assert_eq!((stage.imbalance(), stage.dropped["full"]), (0, 3));
    }

    #[test]
    fn ledgers_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        let mut ledger = Ledger {
            stages: vec![Stage::new("a")],
            ..Ledger::default()
        };
        ledger.facts.insert("packets".into(), 3.into());
        write_file(&path, &ledger).unwrap();
        assert_eq!(read_file(&path).unwrap(), ledger);
    }
}
