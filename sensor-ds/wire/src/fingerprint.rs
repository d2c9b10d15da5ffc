//! JA4 and JA3 of a ClientHello, by the published texts (JA4: `FoxIO-LLC/ja4`, `technical_details/JA4.md`;
//! JA3: `salesforce/ja3`), and `ja4_norm`, which stays the same when a client resumes a session.
//!
//! Points of the JA4 text that are easily missed: GREASE is dropped everywhere, also among signature
//! algorithms; the version is the highest of `supported_versions`, else the message's own, never the
//! record's; SNI is `d` if the extension is present, whatever it holds; counts include SNI and ALPN and
//! stop at 99; an ALPN value whose ends are not both ASCII letters or digits gives the first and the last
//! *hex digit* of the value; without signature algorithms there is no trailing underscore; nothing to
//! hash is `000000000000`.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::registry::{ExtensionType, TlsVersion, is_grease};
use crate::tls::ClientHello;

/// Extensions that depend on an earlier session, on the server's first answer or on the length of the
/// rest, and not on the client's build: they come and go between connections of one client.
///
/// `ja4_norm` is the JA4 without them. `pre_shared_key` and `early_data` appear on resumption (TLS 1.3),
/// padding shrinks or vanishes when they do, cookie is the echo of a HelloRetryRequest. `session_ticket`
/// stays: clients that know it send it on first connections too, empty. `psk_key_exchange_modes` stays:
/// it is sent with and without a ticket.
pub const TRANSIENT_EXTENSIONS: [ExtensionType; 4] = [
    ExtensionType::PRE_SHARED_KEY,
    ExtensionType::EARLY_DATA,
    ExtensionType::PADDING,
    ExtensionType::COOKIE,
];

/// What carried the hello: the first letter of JA4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// TLS over TCP, `t`.
    Tcp,
    /// QUIC, `q`.
    Quic,
    /// DTLS, `d`.
    Dtls,
}

impl Carrier {
    const fn letter(self) -> u8 {
        match self {
            Self::Tcp => b't',
            Self::Quic => b'q',
            Self::Dtls => b'd',
        }
    }
}

/// All fingerprints of one hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprints {
    /// JA4, 36 ASCII characters.
    pub ja4: String,
    /// JA4 without hashing: sorted lists in hexadecimal.
    pub ja4_r: String,
    /// JA4 without [`TRANSIENT_EXTENSIONS`].
    pub ja4_norm: String,
    /// JA3, 32 hexadecimal digits.
    pub ja3: String,
    /// The text that JA3 is the MD5 of.
    pub ja3_raw: String,
}

impl Fingerprints {
    /// Computes all fingerprints.
    pub fn of(hello: &ClientHello<'_>, carrier: Carrier) -> Self {
        let lists = Lists::of(hello, carrier);
        let ciphers = hex_list(&lists.sorted_ciphers());
        let cipher_hash = hash12(&ciphers);
        let extensions = lists.sorted_extensions(|_| true);
        let tail = lists.tail(&extensions);
        let prefix = lists.prefix(lists.extensions.len());
        let ja4 = [&prefix, "_", &cipher_hash, "_", &hash12(&tail)].concat();
        let ja4_norm = if lists.extensions.iter().any(|kind| is_transient(*kind)) {
            let stable = lists.sorted_extensions(|kind| !is_transient(kind));
            let n = lists
                .extensions
                .iter()
                .filter(|kind| !is_transient(**kind))
                .count();
            [
                &lists.prefix(n),
                "_",
                &cipher_hash,
                "_",
                &hash12(&lists.tail(&stable)),
            ]
            .concat()
        } else {
            ja4.clone()
        };
        let ja4_r = [&prefix, "_", &ciphers, "_", &tail].concat();
        let ja3_raw = ja3_text(hello);
        let ja3 = hex(&Md5::digest(ja3_raw.as_bytes()));
        Self {
            ja4,
            ja4_r,
            ja4_norm,
            ja3,
            ja3_raw,
        }
    }
}

/// JA4 without hashing or sorting, SNI and ALPN included: `JA4_ro` of the text.
pub fn ja4_original_order(hello: &ClientHello<'_>, carrier: Carrier) -> String {
    let lists = Lists::of(hello, carrier);
    let prefix = lists.prefix(lists.extensions.len());
    [
        &prefix,
        "_",
        &hex_list(&lists.ciphers),
        "_",
        &lists.tail(&lists.extensions),
    ]
    .concat()
}

fn is_transient(kind: u16) -> bool {
    TRANSIENT_EXTENSIONS.contains(&ExtensionType(kind))
}

/// The lists that JA4 is made of, in wire order, without GREASE.
struct Lists<'a> {
    carrier: Carrier,
    version: TlsVersion,
    has_server_name: bool,
    first_alpn: &'a [u8],
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signature_algorithms: Vec<u16>,
}

impl<'a> Lists<'a> {
    fn of(hello: &ClientHello<'a>, carrier: Carrier) -> Self {
        let without_grease = |value: &u16| !is_grease(*value);
        let extensions: Vec<u16> = hello
            .extensions()
            .map(|e| e.kind.0)
            .filter(without_grease)
            .collect();
        Self {
            carrier,
            version: version_of(hello, carrier),
            has_server_name: extensions.contains(&ExtensionType::SERVER_NAME.0),
            first_alpn: hello.alpn().next().unwrap_or_default(),
            ciphers: hello.cipher_suites().filter(without_grease).collect(),
            extensions,
            signature_algorithms: hello.signature_algorithms().filter(without_grease).collect(),
        }
    }

    /// The first part, 10 characters, with `n_extensions` as the count of extensions.
    fn prefix(&self, n_extensions: usize) -> String {
        let mut prefix = String::with_capacity(10);
        prefix.push(char::from(self.carrier.letter()));
        prefix.push_str(self.version.ja4_code());
        prefix.push(if self.has_server_name { 'd' } else { 'i' });
        push_count(&mut prefix, self.ciphers.len());
        push_count(&mut prefix, n_extensions);
        prefix.extend(alpn_code(self.first_alpn));
        prefix
    }

    fn sorted_ciphers(&self) -> Vec<u16> {
        let mut ciphers = self.ciphers.clone();
        ciphers.sort_unstable();
        ciphers
    }

    /// Extensions that `keep` accepts, without SNI and ALPN, sorted.
    fn sorted_extensions(&self, keep: impl Fn(u16) -> bool) -> Vec<u16> {
        let unwanted = [ExtensionType::SERVER_NAME.0, ExtensionType::ALPN.0];
        let mut kept: Vec<u16> = self
            .extensions
            .iter()
            .copied()
            .filter(|kind| !unwanted.contains(kind) && keep(*kind))
            .collect();
        kept.sort_unstable();
        kept
    }

    /// Extensions, then signature algorithms behind an underscore if there are any.
    fn tail(&self, extensions: &[u16]) -> String {
        let mut tail = hex_list(extensions);
        if !self.signature_algorithms.is_empty() {
            tail.push('_');
            tail.push_str(&hex_list(&self.signature_algorithms));
        }
        tail
    }
}

fn version_of(hello: &ClientHello<'_>, carrier: Carrier) -> TlsVersion {
    match carrier {
        Carrier::Tcp | Carrier::Quic => hello.version(),
        // DTLS counts down: the lowest number is the highest version.
        Carrier::Dtls => {
            let offered = hello.supported_versions().filter(|version| !is_grease(version.0));
            offered.min().unwrap_or(hello.legacy_version)
        }
    }
}

/// Two digits, at most 99.
fn push_count(text: &mut String, n: usize) {
    let n = u8::try_from(n.min(99)).unwrap_or(99);
    for digit in [n / 10, n % 10] {
        text.push(char::from(b'0'.saturating_add(digit)));
    }
}

/// The two ALPN characters of a value; `00` if it is empty.
fn alpn_code(value: &[u8]) -> [char; 2] {
    let (Some(&first), Some(&last)) = (value.first(), value.last()) else {
        return ['0', '0'];
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(first), char::from(last)];
    }
    [
        char::from(hex_digit(first >> 4)),
        char::from(hex_digit(last & 0x0f)),
    ]
}

const fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0'.saturating_add(nibble),
        _ => b'a'.saturating_add(nibble.saturating_sub(10)),
    }
}

fn push_hex(text: &mut String, byte: u8) {
    text.push(char::from(hex_digit(byte >> 4)));
    text.push(char::from(hex_digit(byte & 0x0f)));
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        push_hex(&mut text, *byte);
    }
    text
}

/// Four lower-case hexadecimal digits each, separated by commas.
fn hex_list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len().saturating_mul(5));
    for value in values {
        if !text.is_empty() {
            text.push(',');
        }
        value
            .to_be_bytes()
            .into_iter()
            .for_each(|byte| push_hex(&mut text, byte));
    }
    text
}

/// The first 12 hexadecimal digits of SHA-256, or zeros if there is nothing to hash.
fn hash12(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    hex(Sha256::digest(text.as_bytes())
        .first_chunk::<6>()
        .map_or(&[][..], |head| head))
}

/// Version, ciphers, extensions, groups and point formats in decimal and wire order, without GREASE.
fn ja3_text(hello: &ClientHello<'_>) -> String {
    let mut text = String::with_capacity(256);
    push_decimal(&mut text, hello.legacy_version.0);
    text.push(',');
    push_decimal_list(&mut text, hello.cipher_suites());
    text.push(',');
    push_decimal_list(&mut text, hello.extensions().map(|extension| extension.kind.0));
    text.push(',');
    push_decimal_list(&mut text, hello.supported_groups());
    text.push(',');
    push_decimal_list(
        &mut text,
        hello.ec_point_formats().iter().map(|format| u16::from(*format)),
    );
    text
}

fn push_decimal_list(text: &mut String, values: impl Iterator<Item = u16>) {
    let mut is_first = true;
    for value in values.filter(|value| !is_grease(*value)) {
        if !is_first {
            text.push('-');
        }
        is_first = false;
        push_decimal(text, value);
    }
}

fn push_decimal(text: &mut String, value: u16) {
    let mut divisor = 10_000_u16;
    let mut started = false;
    // Terminates: five turns, one for each digit of a 16-bit number.
    while let Some(digit) = value
        .checked_div(divisor)
        .and_then(|shifted| shifted.checked_rem(10))
    {
        started |= digit != 0 || divisor == 1;
        if started {
            text.push(char::from(b'0'.saturating_add(u8::try_from(digit).unwrap_or(0))));
        }
        divisor /= 10;
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests;
