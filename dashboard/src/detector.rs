//! Asks the detector why a client has its score now: the one question that the store cannot answer.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::api::types::{ClientKey, ProblemCode};
use crate::error::ApiError;

/// How long the detector may take: it has what it needs in memory, or reads one client.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, bytes: one client has some ten models with some ten reasons each.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Where the detector is.
#[derive(Debug, Clone)]
pub(crate) struct Detector {
    client: Client<HttpConnector, Empty<Bytes>>,
    base: String,
}

impl Detector {
    /// At `http://host:port`.
    pub(crate) fn new(base: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        Self {
            client: Client::builder(TokioExecutor::new())
                // Asked rarely: a connection kept since the last time may be closed in the moment in which it is used again.
                .pool_max_idle_per_host(0)
                .build(connector),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// What it says about a client.
    ///
    /// # Errors
    /// If it does not answer, or with something else than JSON.
    pub(crate) async fn why(&self, client: &ClientKey) -> Result<Value, ApiError> {
        let uri = format!(
            "{}/why?src_ip={}&ja4={}&host={}",
            self.base,
            encoded(&client.src_ip),
            encoded(&client.ja4),
            encoded(&client.host)
        );
        let uri = uri
            .parse()
            .map_err(|error| ApiError::internal(format!("address of the detector: {error}")))?;
        let ask = async {
            let response = self.client.get(uri).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes();
            Ok::<_, String>((status, body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, ask)
            .await
            .map_err(|_| unreachable("no answer in time"))?
            .map_err(|error| unreachable(&error))?;
        match status.as_u16() {
            200 => serde_json::from_slice(&body).map_err(|error| unreachable(&error.to_string())),
            404 => Err(ApiError::not_found("the detector has not scored this client")),
            status => Err(unreachable(&format!("status {status}"))),
        }
    }
}

fn unreachable(log: &str) -> ApiError {
    let mut problem = ApiError::new(ProblemCode::DetectorUnreachable, "the detector does not answer")
        .with_remedy(
            "scores of the last cycle are still shown; check that ja4-detector runs at detector_url",
        );
    problem.log = Some(format!("detector: {log}"));
    problem
}

/// A text as a query has it.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::auth::hex(&[byte]).to_ascii_uppercase());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_whole() {
        assert_eq!(encoded("a b&c=é\"\n"), "a%20b%26c%3D%C3%A9%22%0A");
    }

    #[tokio::test]
    async fn a_detector_that_is_away_is_said() {
        let client = ClientKey {
            src_ip: "192.0.2.1".to_owned(),
            ja4: String::new(),
            host: "a".to_owned(),
        };
        let error = Detector::new("http://127.0.0.1:1")
            .why(&client)
            .await
            .unwrap_err();
        assert_eq!(error.code, ProblemCode::DetectorUnreachable);
    }
}
