//! A TLS server that says what it received, and clients of several TLS stacks.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Lab, Place, check, eventually};

/// `openssl s_server`, which prints the handshake messages that it receives.
pub(crate) struct TlsServer {
    child: Child,
    log: std::path::PathBuf,
    pub(crate) port: u16,
}

impl TlsServer {
    /// In the namespace of the sensor.
    pub(crate) fn start(lab: &Lab, dir: &Path, port: u16, options: &[&str]) -> Self {
        Self::start_at(lab, Place::Inside, dir, port, options)
    }

    /// In a namespace.
    pub(crate) fn start_at(lab: &Lab, place: Place, dir: &Path, port: u16, options: &[&str]) -> Self {
        let (key, cert) = (dir.join("key.pem"), dir.join("cert.pem"));
        if !cert.exists() {
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=sensor.test",
                    "-keyout",
                ])
                .arg(&key)
                .arg("-out")
                .arg(&cert)
                .output()
                .unwrap();
            check(&made, "openssl req");
        }
        let log = dir.join(format!("server-{port}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut child = lab
            .command(place, "openssl")
            .args(["s_server", "-www", "-msg", "-accept", &format!("*:{port}")])
            .args(options)
            .arg("-key")
            .arg(&key)
            .arg("-cert")
            .arg(&cert)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        eventually("TLS server listens", || {
            assert_eq!(child.try_wait().unwrap(), None, "openssl s_server ended");
            std::fs::read_to_string(&log)
                .unwrap()
                .contains("ACCEPT")
                .then_some(())
        });
        Self { child, log, port }
    }

    /// ClientHello messages as the server received them.
    pub(crate) fn hellos(&self) -> Vec<Vec<u8>> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let mut found = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if !(line.starts_with("<<<") && line.ends_with("ClientHello")) {
                continue;
            }
            let mut message = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with("    ")) {
                message.extend(
                    row.split_whitespace()
                        .map(|byte| u8::from_str_radix(byte, 16).unwrap()),
                );
            }
            found.push(message);
        }
        found
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A request by a client of one TLS stack, from outside.
pub(crate) fn visit(lab: &Lab, client: &str, host: &str, port: u16) {
    let url = format!(
        "https://{}:{port}/",
        if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        }
    );
    let shell = match client {
        "curl" => format!("curl -sSk --max-time 20 '{url}'"),
        "curl-tls12" => {
            format!("curl -sSk --max-time 20 --tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256 '{url}'")
        }
        "openssl" => format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -servername sensor.test -alpn h2,http/1.1 -connect '{}'",
            url.trim_start_matches("https://").trim_end_matches('/')
        ),
        "gnutls" => format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | gnutls-cli --insecure --sni-hostname=sensor.test --port {port} '{host}'"
        ),
        "python" => format!(
            "python3 -c \"import ssl,urllib.request as u; print(u.urlopen('{url}', context=ssl._create_unverified_context(), timeout=20).read())\""
        ),
        // Offers a key for a group that the server does not take: HelloRetryRequest and a second hello.
        "openssl-retried" => format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -groups X25519:P-384 -connect '{}'",
            url.trim_start_matches("https://").trim_end_matches('/')
        ),
        other => panic!("no client {other}"),
    };
    let output = lab
        .command(Place::Outside, "sh")
        .args(["-c", &shell])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let page = check(&output, &format!("{client} to {url}"));
    assert!(page.contains("s_server"), "{client} to {url} got no page: {page}");
}
