//! How a program that runs once ends: within its own deadline, and with a last word that the cluster keeps.
//!
//! Kubernetes keeps the first 4 096 bytes of a container's termination message and loses them when it deletes the pod at the
//! Job's deadline. So the last word is one JSON object of at most [`MAX_BYTES`], and the program's deadline is to be 20 s
//! before the Job's.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::clickhouse::Trouble;
use crate::exit::{causes, chain};

/// Longest last word.
pub const MAX_BYTES: usize = 4000;
/// Reason of a program that its own deadline ended.
pub const DEADLINE: &str = "DeadlineExceeded";
/// Reason of a failure that has no better one.
pub const FAILED: &str = "Failed";

/// The program did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("it did not end within its deadline of {}; see what it waits for, or raise --deadline", humantime::format_duration(*.0))]
pub struct DeadlineExceeded(pub Duration);

/// How a program ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Program and command, such as `ja4 schema apply`.
    pub program: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// Nothing when it did what it should; else why not: a word and a sentence.
    pub failure: Option<(String, String)>,
    /// What it did.
    pub detail: Value,
}

impl Ending {
    /// It did what it should.
    pub fn done(program: &'static str, version: &'static str, detail: Value) -> Self {
        Self {
            program,
            version,
            failure: None,
            detail,
        }
    }

    /// It failed. The reason is the store's trouble, the deadline, or `otherwise`.
    pub fn failed(
        program: &'static str,
        version: &'static str,
        error: &(dyn Error + 'static),
        otherwise: &str,
    ) -> Self {
        let reason = if causes(error).any(<dyn Error>::is::<DeadlineExceeded>) {
            DEADLINE.to_owned()
        } else {
            Trouble::within(error).map_or_else(|| otherwise.to_owned(), |trouble| trouble.name().to_owned())
        };
        Self {
            program,
            version,
            failure: Some((reason, chain(error))),
            detail: Value::Null,
        }
    }

    /// One JSON object of at most [`MAX_BYTES`]: a long sentence is cut in its middle, because the cause is at its end; a long
    /// detail is left out, which is said.
    pub fn text(&self) -> String {
        let finished_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let object = |message: &str, detail: &Value| {
            let (outcome, reason) = match &self.failure {
                None => ("succeeded", ""),
                Some((reason, _)) => ("failed", reason.as_str()),
            };
            json!({
                "program": self.program, "version": self.version, "outcome": outcome, "reason": reason,
                "message": message, "detail": detail, "finished_at": finished_at,
            })
            .to_string()
        };
        let message = self.failure.as_ref().map_or("", |(_, message)| message.as_str());
        let whole = object(message, &self.detail);
        if whole.len() <= MAX_BYTES {
            return whole;
        }
        let left_out = json!({ "left_out": "too long" });
        let mut keep = message.chars().count();
        loop {
            let cut = object(&without_middle(message, keep), &left_out);
            if cut.len() <= MAX_BYTES || keep == 0 {
                return cut;
            }
            // What escapes need is not known before: a character takes up to six bytes.
            keep -= (cut.len() - MAX_BYTES).div_ceil(6).min(keep);
        }
    }

    /// Writes it where the cluster looks for it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.text())
    }
}

/// `keep` characters of a text, a third of them from its start.
fn without_middle(text: &str, keep: usize) -> String {
    let n = text.chars().count();
    if keep >= n {
        return text.to_owned();
    }
    let start: String = text.chars().take(keep / 3).collect();
    let end: String = text.chars().skip(n - (keep - keep / 3)).collect();
    format!("{start} … {end}")
}

/// Runs until it is done or the deadline has come.
///
/// # Errors
/// Those of the work, or [`DeadlineExceeded`].
pub async fn within<T, E: From<DeadlineExceeded>>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(DeadlineExceeded(deadline).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str) -> Ending {
        let error = clickhouse::error::Error::BadResponse(message.to_owned());
        Ending::failed("ja4 schema apply", "1.2.3", &error, FAILED)
    }

    #[test]
    fn a_last_word_is_whole_json_however_long_and_odd_the_failure_is() {
        let odd = "\u{1}\"\\é\u{202e}𝄞\n";
        for text in [
            "x".repeat(100_000),
            odd.repeat(20_000),
            "\0".repeat(9000),
            String::new(),
        ] {
            let said = failure(&format!("Code: 243. {text} the very end"));
            let word = said.text();
            assert!(word.len() <= MAX_BYTES, "{} bytes", word.len());
            let read: Value = serde_json::from_str(&word).unwrap();
            assert_eq!(
                (&read["outcome"], &read["reason"]),
                (&json!("failed"), &json!("DiskFull"))
            );
            assert!(
                read["message"].as_str().unwrap().ends_with("the very end"),
                "{word}"
            );
            assert!(
                text.is_empty() || word.len() > MAX_BYTES - 700,
                "{} bytes are kept",
                word.len()
            );
        }
    }

    #[test]
    fn a_long_detail_is_left_out_and_that_is_said() {
        let done = |detail| Ending::done("p", "1", detail).text();
        assert!(done(json!({"steps": ["0001/1"]})).contains("0001/1"));
        let word = done(json!({ "steps": vec!["0001/1"; 1000] }));
        assert!(word.len() < MAX_BYTES && word.contains("left_out"), "{word}");
    }

    #[test]
    fn its_own_deadline_is_the_reason() {
        let error = DeadlineExceeded(Duration::from_secs(100));
        let said = Ending::failed("p", "1", &error, FAILED);
        let (reason, message) = said.failure.unwrap();
        assert_eq!(reason, DEADLINE);
        assert!(
            message.contains("1m 40s") && message.contains("--deadline"),
            "{message}"
        );
    }
}
