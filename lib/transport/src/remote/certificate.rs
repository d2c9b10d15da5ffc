//! Who a certificate speaks for: the URI `ja4://PIPELINE/ROLE/NODE` among its subject's other names. Pure.
//!
//! The certificate was verified before; what is read here is still read as if it were hostile. Only as much of
//! DER as leads to the names is understood (RFC 5280 section 4.1): definite lengths of at most three bytes.

use std::fmt;

/// What the owner of a certificate may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerRole {
    /// Sends the events of a node.
    Forward,
    /// Reads the report: the operator.
    Operator,
    /// Reads the report: a person or a monitor.
    Reader,
}

impl PeerRole {
    const ALL: [Self; 3] = [Self::Forward, Self::Operator, Self::Reader];

    /// The name in the certificate.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }

    /// True if it may read the report.
    pub const fn may_read(self) -> bool {
        matches!(self, Self::Operator | Self::Reader)
    }
}

/// The subject of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertifiedPeer {
    /// What it may do.
    pub role: PeerRole,
    /// The only node that it may speak for; none for any, which one certificate for a whole `DaemonSet` needs.
    pub node: Option<String>,
}

impl CertifiedPeer {
    /// True if events of this host may come from it.
    pub fn may_be(&self, node: &str) -> bool {
        self.node.as_deref().is_none_or(|certified| certified == node)
    }
}

impl fmt::Display for CertifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.name(), self.node.as_deref().unwrap_or("*"))
    }
}

/// Why a certificate says nothing that is understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Not the layout of a certificate.
    #[error("its certificate cannot be read")]
    Layout,
    /// No URI of ours.
    #[error("its certificate has no name ja4://PIPELINE/ROLE/NODE")]
    NoName,
    /// More than one: which one counts would depend on the reader.
    #[error("its certificate has several names ja4://…")]
    Several,
    /// Another pipeline's.
    #[error("its certificate is for the pipeline {0:?}")]
    Pipeline(String),
    /// A role that is not known.
    #[error("its certificate has the role {0:?}, known are forward, operator and reader")]
    Role(String),
    /// No node, or an empty one.
    #[error("its certificate names no node")]
    Node,
}

/// Reads the subject of a certificate for `pipeline`.
///
/// # Errors
/// See [`NameError`].
pub fn certified_peer(der: &[u8], pipeline: &str) -> Result<CertifiedPeer, NameError> {
    let names = uri_names(der).ok_or(NameError::Layout)?;
    let mut ours = names
        .iter()
        .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix("ja4://"));
    let name = ours.next().ok_or(NameError::NoName)?;
    if ours.next().is_some() {
        return Err(NameError::Several);
    }
    let (certified, rest) = name.split_once('/').ok_or(NameError::NoName)?;
    if certified != pipeline {
        return Err(NameError::Pipeline(certified.to_owned()));
    }
    let (role, node) = rest.split_once('/').unwrap_or((rest, ""));
    let role = PeerRole::ALL
        .into_iter()
        .find(|known| known.name() == role)
        .ok_or_else(|| NameError::Role(role.to_owned()))?;
    let node = match node {
        "" if role == PeerRole::Forward => return Err(NameError::Node),
        "*" | "" => None,
        node => Some(node.to_owned()),
    };
    Ok(CertifiedPeer { role, node })
}

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// `[3]` of a certificate's body: its extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[6]` of a general name: a URI.
const URI: u8 = 0x86;
/// 2.5.29.17, the subject's other names.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// All URIs among the subject's other names; nothing if the bytes are no certificate.
fn uri_names(der: &[u8]) -> Option<Vec<&[u8]>> {
    let certificate = expect(&mut &*der, SEQUENCE)?;
    let mut body = expect(&mut &*certificate, SEQUENCE)?;
    let mut names = Vec::new();
    while !body.is_empty() {
        let (tag, value) = element(&mut body)?;
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = expect(&mut &*value, SEQUENCE)?;
        while !extensions.is_empty() {
            let mut extension = expect(&mut extensions, SEQUENCE)?;
            if expect(&mut extension, OBJECT_ID)? != SUBJECT_ALT_NAME {
                continue;
            }
            let (mut tag, mut value) = element(&mut extension)?;
            if tag != OCTET_STRING {
                // Whether it is critical stands before it.
                (tag, value) = element(&mut extension)?;
            }
            if tag != OCTET_STRING {
                return None;
            }
            let mut general = expect(&mut &*value, SEQUENCE)?;
            while !general.is_empty() {
                let (tag, value) = element(&mut general)?;
                if tag == URI {
                    names.push(value);
                }
            }
        }
    }
    Some(names)
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, value) = element(input)?;
    (found == tag).then_some(value)
}

/// The next tag and value.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], rest) = input.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["web-1".to_owned()]).unwrap();
        for name in names {
            params
                .subject_alt_names
                .push(rcgen::SanType::URI((*name).try_into().unwrap()));
        }
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[track_caller]
    fn check(names: &[&str], expected: Result<(PeerRole, Option<&str>), NameError>) {
        let expected = expected.map(|(role, node)| CertifiedPeer {
            role,
            node: node.map(str::to_owned),
        });
        assert_eq!(certified_peer(&certificate(names), "shop"), expected, "{names:?}");
    }

    #[test]
    fn the_name_says_role_and_node() {
        check(
            &["ja4://shop/forward/web-1"],
            Ok((PeerRole::Forward, Some("web-1"))),
        );
        check(
            &["https://x/", "ja4://shop/forward/*"],
            Ok((PeerRole::Forward, None)),
        );
        check(&["ja4://shop/operator"], Ok((PeerRole::Operator, None)));
        check(&["ja4://shop/reader/anne"], Ok((PeerRole::Reader, Some("anne"))));
    }

    #[test]
    fn every_other_name_is_refused_with_its_reason() {
        check(&[], Err(NameError::NoName));
        check(&["ja4://shop"], Err(NameError::NoName));
        check(&["ja4://shop/forward"], Err(NameError::Node));
        check(
            &["ja4://other/forward/a"],
            Err(NameError::Pipeline("other".to_owned())),
        );
        check(&["ja4://shop/root/a"], Err(NameError::Role("root".to_owned())));
        check(
            &["ja4://shop/reader", "ja4://shop/forward/a"],
            Err(NameError::Several),
        );
    }

    #[test]
    fn cut_and_flipped_certificates_do_no_harm() {
        let good = certificate(&["ja4://shop/forward/web-1"]);
        for at in 0..good.len() {
            assert!(certified_peer(&good[..at], "shop").is_err());
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // Whatever it says, it says something.
                let _answer = certified_peer(&bad, "shop");
            }
        }
    }
}
