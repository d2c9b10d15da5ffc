//! Registered numbers as newtypes with named constants: an unknown value stays the number it was.

macro_rules! registered {
    ($(#[$doc:meta])* $name:ident($int:ty) { $($(#[$item:meta])* $constant:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$item])* pub const $constant: Self = Self($value);)*
        }
    };
}

registered! {
    /// Link layer of a capture: `DLT_` numbers as libpcap reports them on Linux
    /// (<https://www.tcpdump.org/linktypes.html>).
    LinkType(i32) {
        /// BSD loopback: address family in the byte order of the capturing machine.
        NULL = 0,
        /// Ethernet II, with or without VLAN tags.
        ETHERNET = 1,
        /// IP without link header, number of Linux and the BSDs.
        RAW = 12,
        /// IP without link header, number of OpenBSD.
        RAW_OPENBSD = 14,
        /// IP without link header, number used in files.
        RAW_FILE = 101,
        /// OpenBSD loopback: address family in network byte order.
        LOOP = 108,
        /// Linux cooked capture, version 1.
        LINUX_SLL = 113,
        /// IPv4 without link header.
        IPV4 = 228,
        /// IPv6 without link header.
        IPV6 = 229,
        /// Linux cooked capture, version 2.
        LINUX_SLL2 = 276,
    }
}

registered! {
    /// Ethernet payload type (<https://www.iana.org/assignments/ieee-802-numbers>).
    EtherType(u16) {
        /// IPv4.
        IPV4 = 0x0800,
        /// ARP.
        ARP = 0x0806,
        /// IPv6.
        IPV6 = 0x86dd,
        /// Customer VLAN tag, IEEE 802.1Q.
        VLAN = 0x8100,
        /// Service VLAN tag, IEEE 802.1ad.
        QINQ = 0x88a8,
        /// Service VLAN tag of older switches.
        QINQ_OLD = 0x9100,
    }
}

impl EtherType {
    /// True for the three tags that a VLAN header may carry.
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ | Self::QINQ_OLD)
    }
}

registered! {
    /// IP protocol or IPv6 next header (<https://www.iana.org/assignments/protocol-numbers>).
    IpProtocol(u8) {
        /// IPv6 hop-by-hop options.
        HOP_BY_HOP = 0,
        /// ICMP.
        ICMP = 1,
        /// TCP.
        TCP = 6,
        /// UDP.
        UDP = 17,
        /// IPv6 routing header.
        ROUTING = 43,
        /// IPv6 fragment header.
        FRAGMENT = 44,
        /// Authentication header.
        AUTHENTICATION = 51,
        /// IPv6: nothing follows.
        NO_NEXT_HEADER = 59,
        /// IPv6 destination options.
        DESTINATION_OPTIONS = 60,
        /// IPv6 mobility header.
        MOBILITY = 135,
    }
}

registered! {
    /// TCP option kind (<https://www.iana.org/assignments/tcp-parameters>).
    TcpOption(u8) {
        /// End of the list.
        END = 0,
        /// Padding.
        NOP = 1,
        /// Maximum segment size.
        MSS = 2,
        /// Window scale.
        WINDOW_SCALE = 3,
        /// Timestamps.
        TIMESTAMPS = 8,
    }
}

registered! {
    /// TLS record content type (<https://www.iana.org/assignments/tls-parameters>).
    ContentType(u8) {
        /// Change of cipher spec; in TLS 1.3 a dummy for middleboxes.
        CHANGE_CIPHER_SPEC = 20,
        /// Alert.
        ALERT = 21,
        /// Handshake.
        HANDSHAKE = 22,
        /// Application data.
        APPLICATION_DATA = 23,
    }
}

registered! {
    /// TLS handshake message type.
    HandshakeType(u8) {
        /// ClientHello.
        CLIENT_HELLO = 1,
        /// ServerHello; also a HelloRetryRequest.
        SERVER_HELLO = 2,
    }
}

registered! {
    /// Version number of TLS, DTLS and SSL as it stands on the wire.
    TlsVersion(u16) {
        /// SSL 2.0.
        SSL2 = 0x0002,
        /// SSL 3.0.
        SSL3 = 0x0300,
        /// TLS 1.0.
        TLS10 = 0x0301,
        /// TLS 1.1.
        TLS11 = 0x0302,
        /// TLS 1.2.
        TLS12 = 0x0303,
        /// TLS 1.3.
        TLS13 = 0x0304,
        /// DTLS 1.0.
        DTLS10 = 0xfeff,
        /// DTLS 1.2.
        DTLS12 = 0xfefd,
        /// DTLS 1.3.
        DTLS13 = 0xfefc,
    }
}

impl TlsVersion {
    /// The two characters of JA4: `13`, `12`, `11`, `10`, `s3`, `s2`, `d1`, `d2`, `d3`, else `00`.
    pub const fn ja4_code(self) -> &'static str {
        match self {
            Self::TLS13 => "13",
            Self::TLS12 => "12",
            Self::TLS11 => "11",
            Self::TLS10 => "10",
            Self::SSL3 => "s3",
            Self::SSL2 => "s2",
            Self::DTLS10 => "d1",
            Self::DTLS12 => "d2",
            Self::DTLS13 => "d3",
            _ => "00",
        }
    }
}

registered! {
    /// TLS extension type (<https://www.iana.org/assignments/tls-extensiontype-values>).
    ExtensionType(u16) {
        /// Server name indication.
        SERVER_NAME = 0x0000,
        /// Groups for key exchange.
        SUPPORTED_GROUPS = 0x000a,
        /// Elliptic-curve point formats.
        EC_POINT_FORMATS = 0x000b,
        /// Signature algorithms.
        SIGNATURE_ALGORITHMS = 0x000d,
        /// Application-layer protocol negotiation.
        ALPN = 0x0010,
        /// Padding.
        PADDING = 0x0015,
        /// Session ticket of TLS 1.2.
        SESSION_TICKET = 0x0023,
        /// Pre-shared key: the resumption ticket of TLS 1.3.
        PRE_SHARED_KEY = 0x0029,
        /// 0-RTT data follow.
        EARLY_DATA = 0x002a,
        /// Versions, in TLS 1.3.
        SUPPORTED_VERSIONS = 0x002b,
        /// Cookie echoed after a HelloRetryRequest.
        COOKIE = 0x002c,
        /// Key shares.
        KEY_SHARE = 0x0033,
        /// Encrypted ClientHello, real or GREASE.
        ENCRYPTED_CLIENT_HELLO = 0xfe0d,
    }
}

registered! {
    /// TLS supported group (<https://www.iana.org/assignments/tls-parameters>).
    NamedGroup(u16) {
        /// ML-KEM-512.
        MLKEM512 = 0x0200,
        /// ML-KEM-768.
        MLKEM768 = 0x0201,
        /// ML-KEM-1024.
        MLKEM1024 = 0x0202,
        /// P-256 with ML-KEM-768.
        SECP256R1_MLKEM768 = 0x11eb,
        /// X25519 with ML-KEM-768.
        X25519_MLKEM768 = 0x11ec,
        /// P-384 with ML-KEM-1024.
        SECP384R1_MLKEM1024 = 0x11ed,
        /// SM2 curve with ML-KEM-768.
        CURVE_SM2_MLKEM768 = 0x11ee,
        /// X25519 with Kyber-768, draft of 2023.
        X25519_KYBER768_DRAFT00 = 0x6399,
        /// P-256 with Kyber-768, draft of 2023.
        SECP256R1_KYBER768_DRAFT00 = 0x639a,
    }
}

impl NamedGroup {
    /// True for groups that a quantum computer is not known to break.
    pub const fn is_post_quantum(self) -> bool {
        matches!(
            self,
            Self::MLKEM512
                | Self::MLKEM768
                | Self::MLKEM1024
                | Self::SECP256R1_MLKEM768
                | Self::X25519_MLKEM768
                | Self::SECP384R1_MLKEM1024
                | Self::CURVE_SM2_MLKEM768
                | Self::X25519_KYBER768_DRAFT00
                | Self::SECP256R1_KYBER768_DRAFT00
        )
    }
}

/// True for the sixteen reserved values of RFC 8701 (`0a0a`, `1a1a` … `fafa`).
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grease_has_sixteen_values() {
        let values: Vec<u16> = (0..=u16::MAX).filter(|&v| is_grease(v)).collect();
        assert_eq!(values.len(), 16);
        assert_eq!(values.first(), Some(&0x0a0a));
        assert_eq!(values.last(), Some(&0xfafa));
        assert!(!is_grease(0x0a1a));
    }
}
