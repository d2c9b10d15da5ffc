//! The one Chromium that all people share: a context with cookies, cache and TLS sessions of its own for each.
//!
//! What goes over the wire is the browser's own: hello, HTTP/2, headers, what it loads and in which order. The
//! site's certificate is trusted by the hash of its public key, and nothing else is loosened.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::Shared;
use super::cdp::Cdp;
use super::programs::{Program, Programs};
use super::session::Stacks;

/// Longest load of a page; on a busy machine it takes a second.
const LOAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest start of the browser.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The browser's process.
#[derive(Debug)]
pub(crate) struct Browser {
    cdp: Cdp,
    /// Major version.
    version: String,
    site: String,
    _child: tokio::process::Child,
    _profile: tempfile::TempDir,
}

/// A context: one person's cookies, cache and TLS sessions, reached from one address.
#[derive(Debug)]
pub(crate) struct Profile {
    browser: Arc<Browser>,
    id: String,
}

/// An open page.
#[derive(Debug)]
pub(crate) struct Page {
    browser: Arc<Browser>,
    target: String,
    session: String,
}

impl Browser {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It is not here or does not start; the site does not answer.
    pub(crate) async fn start(programs: &Programs, shared: &Shared) -> anyhow::Result<Self> {
        let hash = key_hash(shared).await?;
        let version = version(programs).await?;
        let profile = tempfile::Builder::new()
            .prefix("ja4-demo-browser-")
            .tempdir()
            .context("cannot make the browser's folder")?;
        let (child, cdp) = start_process(programs, profile.path(), &hash, &agent(&version))?;
        let browser = Self {
            cdp,
            version,
            site: format!(
                "https://{}:{}",
                shared.config.server_name,
                shared.config.server.port()
            ),
            _child: child,
            _profile: profile,
        };
        let answering = browser.cdp.call("", "Browser.getVersion", json!({}));
        tokio::time::timeout(START_TIMEOUT, answering)
            .await
            .unwrap_or(Err("browser_silent"))
            .map_err(anyhow::Error::msg)
            .context("chromium does not start")?;
        Ok(browser)
    }

    /// Target and session of a new page, in the default context if `context` is empty.
    async fn open(&self, context: &str) -> Result<(String, String), &'static str> {
        let mut params = json!({ "url": "about:blank" });
        if !context.is_empty() {
            params["browserContextId"] = context.into();
        }
        let target = text(&self.cdp.call("", "Target.createTarget", params).await?["targetId"])?;
        let params = json!({ "targetId": target, "flatten": true });
        let session = text(&self.cdp.call("", "Target.attachToTarget", params).await?["sessionId"])?;
        Ok((target, session))
    }

    async fn evaluate(&self, session: &str, expression: &str) -> Result<Value, &'static str> {
        let params = json!({ "expression": expression, "returnByValue": true, "userGesture": true });
        let answer = self.cdp.call(session, "Runtime.evaluate", params).await?;
        Ok(answer["result"]["value"].clone())
    }

    /// True once it is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.cdp.is_closed()
    }

    /// Its User-Agent.
    pub(crate) fn agent(&self) -> String {
        agent(&self.version)
    }

    /// A context whose connections come from the proxy's address.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn profile(
        self: &Arc<Self>,
        proxy: std::net::SocketAddr,
    ) -> Result<Profile, &'static str> {
        let params = json!({ "proxyServer": format!("http://{proxy}"), "proxyBypassList": "<-loopback>" });
        let answer = self.cdp.call("", "Target.createBrowserContext", params).await?;
        Ok(Profile {
            browser: Arc::clone(self),
            id: text(&answer["browserContextId"])?,
        })
    }
}

impl Profile {
    /// True if it is a profile of this browser, and not of one that is gone.
    pub(crate) fn is_of(&self, browser: &Arc<Browser>) -> bool {
        Arc::ptr_eq(&self.browser, browser)
    }

    /// Opens a page that has not loaded anything. `blocked` are URL patterns that are not fetched.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn open_page(&self, blocked: &[&str]) -> Result<Page, &'static str> {
        let (target, session) = self.browser.open(&self.id).await?;
        let page = Page {
            browser: Arc::clone(&self.browser),
            target,
            session,
        };
        page.call("Page.enable", json!({})).await?;
        if !blocked.is_empty() {
            page.call("Network.enable", json!({})).await?;
            page.call("Network.setBlockedURLs", json!({ "urls": blocked }))
                .await?;
        }
        Ok(page)
    }

    /// Forgets cookies, cache and TLS sessions, and closes its connections.
    pub(crate) async fn close(self) {
        let params = json!({ "browserContextId": self.id });
        let closing = self
            .browser
            .cdp
            .call("", "Target.disposeBrowserContext", params)
            .await;
        if let Err(reason) = closing {
            tracing::debug!("a context was not closed: {reason}");
        }
    }
}

impl Page {
    async fn call(&self, method: &str, params: Value) -> Result<Value, &'static str> {
        self.browser.cdp.call(&self.session, method, params).await
    }

    /// What an expression of the page is.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn evaluate(&self, expression: &str) -> Result<Value, &'static str> {
        self.browser.evaluate(&self.session, expression).await
    }

    /// Goes to a path as from the address bar, and waits for the load.
    ///
    /// # Errors
    /// No page of the site was loaded in time.
    pub(crate) async fn go(&self, path: &str) -> Result<(), &'static str> {
        let load = self.browser.cdp.load_of(&self.session);
        let url = format!("{}{path}", self.browser.site);
        self.call("Page.navigate", json!({ "url": url })).await?;
        self.loaded(&load).await
    }

    /// Clicks with the mouse on the n-th element that the selector finds, and waits for the load that follows.
    /// False if there is none.
    ///
    /// # Errors
    /// No page of the site was loaded in time.
    pub(crate) async fn click(&self, selector: &str, n: u32) -> Result<bool, &'static str> {
        let selector = Value::from(selector);
        let place = format!(
            "(() => {{ const all = document.querySelectorAll({selector}); if (!all.length) return null; \
             const e = all[{n} % all.length]; e.scrollIntoView({{block: 'center'}}); \
             const r = e.getClientRects()[0]; return r ? [r.x + r.width / 2, r.y + r.height / 2] : null; }})()"
        );
        let place = self.evaluate(&place).await?;
        let (Some(x), Some(y)) = (place[0].as_f64(), place[1].as_f64()) else {
            return Ok(false);
        };
        let load = self.browser.cdp.load_of(&self.session);
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let params = json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params).await?;
        }
        self.loaded(&load).await?;
        Ok(true)
    }

    /// Types into the first element that the selector finds.
    ///
    /// # Errors
    /// The browser is gone.
    pub(crate) async fn type_into(&self, selector: &str, words: &str) -> Result<(), &'static str> {
        let selector = Value::from(selector);
        self.evaluate(&format!("document.querySelector({selector})?.focus()"))
            .await?;
        self.call("Input.insertText", json!({ "text": words })).await?;
        Ok(())
    }

    /// Back in the history, and waits for the load.
    ///
    /// # Errors
    /// No page of the site was loaded in time.
    pub(crate) async fn back(&self) -> Result<(), &'static str> {
        let load = self.browser.cdp.load_of(&self.session);
        self.evaluate("history.back()").await?;
        // From the memory of pages there is no load.
        let _loaded = tokio::time::timeout(Duration::from_secs(2), load.notified())
            .await
            .is_ok();
        Ok(())
    }

    async fn loaded(&self, load: &tokio::sync::Notify) -> Result<(), &'static str> {
        tokio::time::timeout(LOAD_TIMEOUT, load.notified())
            .await
            .map_err(|_| "load_timeout")?;
        let here = self.evaluate("location.href").await?;
        match here.as_str() {
            Some(url) if url.starts_with(&self.browser.site) => Ok(()),
            _ => Err("page_error"),
        }
    }

    /// Closes it.
    pub(crate) async fn close(self) {
        let params = json!({ "targetId": self.target });
        let closing = self.browser.cdp.call("", "Target.closeTarget", params).await;
        if let Err(reason) = closing {
            tracing::debug!("a page was not closed: {reason}");
        }
        self.browser.cdp.forget(&self.session);
    }
}

fn text(value: &Value) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or("browser_answer")
}

/// As Chromium on Linux writes it, with the numbers that are frozen in it. Headless it would say so; everything else
/// it says of itself stays, since what the protocol's emulation changes, the order of headers, is a fingerprint.
fn agent(version: &str) -> String {
    format!(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    )
}

fn start_process(
    programs: &Programs,
    profile: &Path,
    hash: &str,
    agent: &str,
) -> anyhow::Result<(tokio::process::Child, Cdp)> {
    // The protocol is spoken on descriptors 3 and 4: a shell moves standard input and output there.
    let mut command = programs
        .shell_command(
            Program::Chromium,
            "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
        )
        .context("chromium is not here")?;
    command.args([
        "--headless=new",
        "--remote-debugging-pipe",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-dev-shm-usage",
        "--mute-audio",
        "--password-store=basic",
        "--in-process-gpu",
        "--window-size=1280,800",
        // The two of the omnibox each start a process for every window, which no page needs.
        "--disable-features=Translate,OptimizationHints,MediaRouter,SpareRendererForSitePerProcess,BackForwardCache,\
         WebUIOmniboxPopup,WebUIOmniboxAimPopup",
        "about:blank",
    ]);
    if rustix::process::geteuid().is_root() {
        // Its sandbox refuses to run as root.
        command.arg("--no-sandbox");
    }
    command
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--user-agent={agent}"))
        .arg(format!("--ignore-certificate-errors-spki-list={hash}"))
        .env("HOME", profile)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start chromium")?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (input, output) = input.zip(output).context("chromium has no pipes")?;
    Ok((child, Cdp::new(input, output)))
}

/// Major version, as the program prints it: `Chromium 156.0.8078.108 built on …`.
async fn version(programs: &Programs) -> anyhow::Result<String> {
    let mut command = programs
        .command(Program::Chromium)
        .context("chromium is not here")?;
    let output = command
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .await
        .context("cannot start chromium")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = printed
        .split_ascii_whitespace()
        .find_map(|word| word.split_once('.').map(|(major, _)| major))
        .unwrap_or_default();
    ensure!(
        !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit()),
        "chromium printed {printed:?} where its version was expected"
    );
    Ok(major.to_owned())
}

/// Base64 of the SHA-256 of the site's public key, as the site shows it now.
async fn key_hash(shared: &Shared) -> anyhow::Result<String> {
    let config = &shared.config;
    let name = ServerName::try_from(config.server_name.clone()).context("server_name is none")?;
    let connector = tokio_rustls::TlsConnector::from(Stacks::new().choose(0));
    let stream = TcpStream::connect(config.server).await;
    let stream = stream.with_context(|| format!("the site {} does not answer", config.server))?;
    let stream = connector
        .connect(name, stream)
        .await
        .context("the site speaks no TLS")?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().context("the site shows no certificate")?;
    let key = public_key(certificate).context("the site's certificate cannot be read")?;
    Ok(base64::engine::general_purpose::STANDARD.encode(Sha256::digest(key)))
}

/// The `SubjectPublicKeyInfo` of a certificate (RFC 5280, section 4.1): the element after version, serial number,
/// algorithm, issuer, validity and subject.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (_, content, _) = element(certificate)?;
    let (_, mut rest, _) = element(content)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    for _ in 0..5 {
        rest = element(rest)?.2;
    }
    Some(element(rest)?.0)
}

/// A DER element: whole, content, what follows.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, len) = match *bytes.get(1)? {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(*bytes.get(2)?)),
        0x82 => (4, usize::from(*bytes.get(2)?) << 8 | usize::from(*bytes.get(3)?)),
        _ => return None,
    };
    let whole = bytes.get(..head + len)?;
    Some((whole, &whole[head..], &bytes[head + len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_of_a_certificate_is_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["demo.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der: &[u8] = certificate.der();
        assert_eq!(
            public_key(der),
            Some(rcgen::PublicKeyData::subject_public_key_info(&key).as_slice())
        );
        for len in 0..der.len() {
            assert_eq!(public_key(&der[..len]), None);
        }
    }
}
