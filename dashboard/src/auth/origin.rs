//! Is a request for us, and from our own page? By the headers `Host`, `Origin` and `Sec-Fetch-Site`.

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::api::types::ProblemCode;
use crate::config::{Origin, without_default_port};
use crate::error::ApiError;

/// What we are called.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    public: Option<Origin>,
}

/// Names of this machine for itself: whoever asks them is on it, or behind a port that it forwarded.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Origins {
    /// By the configured public URL.
    pub(crate) fn new(public_url: Option<&str>) -> Self {
        Self {
            public: public_url.and_then(Origin::parse),
        }
    }

    /// What a link to us begins with.
    pub(crate) fn base(&self, listen: SocketAddr) -> String {
        match &self.public {
            Some(public) if public.is_https => format!("https://{}", public.authority),
            Some(public) => format!("http://{}", public.authority),
            None => format!("http://{listen}"),
        }
    }

    /// A name that is not ours is somebody's who lets it point here (DNS rebinding).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_host(&self, headers: &HeaderMap, authority: Option<&str>) -> Result<(), ApiError> {
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .or(authority);
        if host.is_some_and(|host| self.is_ours(host)) {
            return Ok(());
        }
        Err(ApiError::new(
            ProblemCode::CrossSite,
            "the name in the address is not the dashboard's: set public_url to what people type to get here",
        ))
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_public = self
            .public
            .as_ref()
            .is_some_and(|public| without_default_port(&host, public.is_https) == public.authority);
        is_public || is_local(&host)
    }

    /// A request that changes something comes from our own page, or from no page at all.
    ///
    /// # Errors
    /// Where it comes from.
    pub(crate) fn check_write(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let refuse = || {
            ApiError::new(
                ProblemCode::CrossSite,
                "the request comes from another site's page: open the dashboard itself",
            )
        };
        if let Some(site) = headers.get("sec-fetch-site")
            && !matches!(site.as_bytes(), b"same-origin" | b"none")
        {
            return Err(refuse());
        }
        let Some(origin) = headers.get(ORIGIN) else {
            // Browsers send it with every such request; the CSRF token is needed in any case.
            return Ok(());
        };
        let origin = origin.to_str().ok().and_then(Origin::parse).ok_or_else(refuse)?;
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let host = without_default_port(host, origin.is_https).to_ascii_lowercase();
        let is_public = self.public.as_ref() == Some(&origin);
        // The public name by http is not the public page: whoever is on the way may have written it.
        let is_here = origin.authority == host && is_local(&host);
        if is_public || is_here {
            Ok(())
        } else {
            Err(refuse())
        }
    }
}

/// A name of this machine for itself, with any port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    LOCAL_HOSTS.contains(&name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[track_caller]
    fn host(public: Option<&str>, host: &'static str, expected: bool) {
        let origins = Origins::new(public);
        assert_eq!(
            origins.check_host(&headers(&[("host", host)]), None).is_ok(),
            expected,
            "{host}"
        );
    }

    #[test]
    fn only_our_own_names_are_answered() {
        host(None, "127.0.0.1:8000", true);
        host(None, "localhost", true);
        host(None, "LOCALHOST:9000", true);
        host(None, "[::1]:8000", true);
        host(None, "evil.example:8000", false);
        host(None, "localhost.evil.example", false);
        host(None, "127.0.0.1.evil.example", false);
        host(None, "", false);
        host(Some("https://d.example"), "d.example", true);
        host(Some("https://d.example"), "d.example:443", true);
        host(Some("https://d.example"), "d.example:8443", false);
        host(Some("https://d.example"), "e.example", false);
        assert!(
            Origins::new(None)
                .check_host(&HeaderMap::new(), Some("localhost"))
                .is_ok()
        );
    }

    #[track_caller]
    fn write(public: Option<&str>, pairs: &[(&'static str, &'static str)], expected: bool) {
        let origins = Origins::new(public);
        assert_eq!(
            origins.check_write(&headers(pairs)).is_ok(),
            expected,
            "{pairs:?}"
        );
    }

    #[test]
    fn writes_come_from_our_own_page() {
        write(
            None,
            &[("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:8000")],
            true,
        );
        write(
            None,
            &[
                ("host", "127.0.0.1:8000"),
                ("origin", "http://127.0.0.1:8000"),
                ("sec-fetch-site", "same-origin"),
            ],
            true,
        );
        write(None, &[("host", "127.0.0.1:8000")], true);
        write(
            None,
            &[("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:9999")],
            false,
        );
        write(
            None,
            &[("host", "127.0.0.1:8000"), ("origin", "http://evil.example")],
            false,
        );
        write(
            None,
            &[("host", "evil.example"), ("origin", "http://evil.example")],
            false,
        );
        write(None, &[("host", "127.0.0.1:8000"), ("origin", "null")], false);
        write(
            None,
            &[("host", "127.0.0.1:8000"), ("sec-fetch-site", "cross-site")],
            false,
        );
        write(
            None,
            &[("host", "127.0.0.1:8000"), ("sec-fetch-site", "same-site")],
            false,
        );
        write(
            Some("https://d.example"),
            &[("host", "d.example"), ("origin", "https://d.example")],
            true,
        );
        write(
            Some("https://d.example"),
            &[("host", "inner:8000"), ("origin", "https://d.example")],
            true,
        );
        write(
            Some("https://d.example"),
            &[("host", "d.example"), ("origin", "http://d.example")],
            false,
        );
    }
}
