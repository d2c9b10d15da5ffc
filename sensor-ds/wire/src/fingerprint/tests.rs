//! Table tests of the points of the JA4 and JA3 texts that implementations get wrong.

use super::*;

/// A hello of TLS 1.2 with the given cipher suites and extensions.
fn hello(ciphers: &[u16], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.push(0);
    body.extend(u16::try_from(ciphers.len() * 2).unwrap().to_be_bytes());
    body.extend(ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()));
    body.extend([1, 0]);
    let mut block = Vec::new();
    for (kind, bytes) in extensions {
        block.extend(kind.to_be_bytes());
        block.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        block.extend(*bytes);
    }
    if !extensions.is_empty() {
        body.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        body.extend(block);
    }
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn of(ciphers: &[u16], extensions: &[(u16, &[u8])]) -> Fingerprints {
    let message = hello(ciphers, extensions);
    Fingerprints::of(&ClientHello::parse(&message).unwrap(), Carrier::Tcp)
}

#[track_caller]
fn check_alpn(value: &[u8], expected: &str) {
    let mut body = vec![
        0,
        u8::try_from(value.len() + 1).unwrap(),
        u8::try_from(value.len()).unwrap(),
    ];
    body.extend(value);
    let ja4 = of(&[0x1301], &[(0x10, &body)]).ja4;
    assert_eq!(&ja4[8..10], expected);
}

#[test]
fn alpn_takes_ends_or_hex_digits() {
    check_alpn(b"h2", "h2");
    check_alpn(b"http/1.1", "h1");
    check_alpn(b"a", "aa");
    check_alpn(&[0xba, 0xad], "bd");
    check_alpn(&[0xab], "ab");
    check_alpn(b"h\xff", "6f");
    check_alpn(b" x", "28");
    check_alpn(b"", "00");
}

#[test]
fn no_alpn_and_an_empty_list_are_zeros() {
    assert_eq!(&of(&[1], &[]).ja4[8..10], "00");
    assert_eq!(&of(&[1], &[(0x10, &[0, 0])]).ja4[8..10], "00");
    assert_eq!(&of(&[1], &[(0x10, &[])]).ja4[8..10], "00");
}

#[test]
fn nothing_to_hash_is_zeros() {
    assert_eq!(of(&[], &[]).ja4, "t12i000000_000000000000_000000000000");
    assert_eq!(
        of(&[0x0a0a], &[(0x1a1a, &[])]).ja4,
        "t12i000000_000000000000_000000000000"
    );
    // SNI and ALPN alone leave nothing for the third part.
    assert_eq!(
        of(&[], &[(0, &[]), (0x10, &[0, 3, 2, b'h', b'2'])]).ja4,
        "t12d0002h2_000000000000_000000000000"
    );
}

#[test]
fn without_signature_algorithms_there_is_no_underscore() {
    let with_grease_only = of(&[0x2f], &[(0x17, &[]), (0x0d, &[0, 2, 0xfa, 0xfa])]);
    assert_eq!(with_grease_only.ja4_r, "t12i010200_002f_000d,0017");
    assert_eq!(of(&[0x2f], &[]).ja4_r, "t12i010000_002f_");
}

#[test]
fn grease_is_dropped_from_every_list() {
    let plain = of(
        &[0x1301],
        &[(0x0d, &[0, 4, 4, 3, 8, 4]), (0x2b, &[4, 3, 4, 3, 3])],
    );
    let greased = of(
        &[0x3a3a, 0x1301],
        &[
            (0xbaba, &[]),
            (0x0d, &[0, 6, 0x5a, 0x5a, 4, 3, 8, 4]),
            (0x2b, &[6, 0xfa, 0xfa, 3, 4, 3, 3]),
            (0x0a0a, &[0]),
        ],
    );
    assert_eq!(plain.ja4, greased.ja4);
    assert_eq!(plain.ja3, greased.ja3);
    assert_eq!(plain.ja4_r, "t13i010200_1301_000d,002b_0403,0804");
}

#[test]
fn signature_algorithms_keep_their_order() {
    let a = of(&[1], &[(0x0d, &[0, 4, 4, 3, 8, 4])]);
    let b = of(&[1], &[(0x0d, &[0, 4, 8, 4, 4, 3])]);
    assert_ne!(a.ja4, b.ja4);
}

#[track_caller]
fn check_version(extension: Option<&[u8]>, expected: &str) {
    let extensions: Vec<(u16, &[u8])> = extension.iter().map(|body| (0x2b, *body)).collect();
    assert_eq!(&of(&[1], &extensions).ja4[1..3], expected);
}

#[test]
fn version_is_the_highest_offered_or_the_messages_own() {
    check_version(None, "12");
    check_version(Some(&[2, 3, 4]), "13");
    check_version(Some(&[4, 3, 1, 3, 3]), "12");
    check_version(Some(&[2, 0x7f, 0x13]), "00");
    check_version(Some(&[2, 0x0a, 0x0a]), "12");
    check_version(Some(&[0]), "12");
}

#[test]
fn counts_stop_at_ninety_nine_and_include_the_signalling_suites() {
    let many: Vec<u16> = (1..=120).collect();
    assert_eq!(&of(&many, &[]).ja4[4..6], "99");
    assert_eq!(&of(&[0x00ff, 0x5600], &[]).ja4[4..6], "02");
}

#[test]
fn server_name_counts_by_presence() {
    assert_eq!(&of(&[1], &[(0, &[])]).ja4[3..4], "d");
    assert_eq!(&of(&[1], &[]).ja4[3..4], "i");
}

#[test]
fn resumption_does_not_change_the_normal_form() {
    let first = of(&[0x1301], &[(0x2b, &[2, 3, 4]), (0x23, &[]), (0x15, &[0; 9])]);
    let resumed = of(
        &[0x1301],
        &[(0x2b, &[2, 3, 4]), (0x23, &[]), (0x2a, &[]), (0x29, &[0; 40])],
    );
    let retried = of(&[0x1301], &[(0x2b, &[2, 3, 4]), (0x23, &[]), (0x2c, &[0, 0])]);
    assert_ne!(first.ja4, resumed.ja4);
    assert_eq!(first.ja4_norm, resumed.ja4_norm);
    assert_eq!(first.ja4_norm, retried.ja4_norm);
    let plain = of(&[0x1301], &[(0x2b, &[2, 3, 4]), (0x23, &[])]);
    assert_eq!(plain.ja4, plain.ja4_norm);
    assert_eq!(plain.ja4_norm, first.ja4_norm);
}

#[test]
fn original_order_keeps_server_name_and_alpn() {
    let message = hello(
        &[0x1302, 0x0a0a, 0x1301],
        &[(0x10, &[0, 3, 2, b'h', b'2']), (0, &[])],
    );
    let text = ja4_original_order(&ClientHello::parse(&message).unwrap(), Carrier::Tcp);
    assert_eq!(text, "t12d0202h2_1302,1301_0010,0000");
}

#[test]
fn dtls_counts_versions_down() {
    let message = hello(&[1], &[(0x2b, &[4, 0xfe, 0xfd, 0xfe, 0xfc])]);
    let fingerprints = Fingerprints::of(&ClientHello::parse(&message).unwrap(), Carrier::Dtls);
    assert_eq!(&fingerprints.ja4[..3], "dd3");
}

#[test]
fn ja3_text_is_decimal_in_wire_order() {
    let got = of(
        &[0xc02b, 47, 0],
        &[(65281, &[0]), (10, &[0, 4, 0, 29, 0, 23]), (11, &[1, 0])],
    );
    assert_eq!(got.ja3_raw, "771,49195-47-0,65281-10-11,29-23,0");
    assert_eq!(of(&[], &[]).ja3_raw, "771,,,,");
}
