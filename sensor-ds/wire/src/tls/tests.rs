//! Table tests of the scanner and of the ClientHello reader.

use super::*;

/// A hello with the given tail behind its compression methods.
fn hello(tail: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x0a, 0x0a, 0x13, 0x01, 1, 0]);
    body.extend(tail);
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn extension(kind: ExtensionType, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.0.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn block(extensions: &[Vec<u8>]) -> Vec<u8> {
    let all = extensions.concat();
    [&u16::try_from(all.len()).unwrap().to_be_bytes()[..], &all].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|piece| [&[22, 3, 1, 0, u8::try_from(piece.len()).unwrap()][..], piece].concat())
        .collect()
}

#[test]
fn every_prefix_needs_more_and_the_whole_is_complete() {
    let message = hello(&[]);
    for size in [1, 3, 4, 64, 255] {
        let stream = records(&message, size);
        let mut scanner = HelloScanner::default();
        for n in 0..stream.len() {
            assert_eq!(
                scanner.advance(&stream[..n]),
                Scan::NeedMore,
                "size {size}, prefix {n}"
            );
        }
        let expected = Scan::Complete {
            preamble_bytes: 0,
            message_bytes: message.len(),
            stream_bytes: stream.len(),
        };
        assert_eq!(scanner.advance(&stream), expected);
        assert_eq!(HelloScanner::default().advance(&stream), expected);
        assert_eq!(collect_message(&stream, message.len()), message);
    }
}

#[test]
fn bytes_behind_the_message_are_left_alone() {
    let message = hello(&[]);
    let mut stream = records(&message, 255);
    let stream_bytes = stream.len();
    stream.extend([20, 3, 3, 0, 1, 1]);
    let expected = Scan::Complete {
        preamble_bytes: 0,
        message_bytes: message.len(),
        stream_bytes,
    };
    assert_eq!(HelloScanner::default().advance(&stream), expected);
    assert!(matches!(collect_message(&stream, message.len()), Cow::Borrowed(bytes) if bytes == message));
}

#[track_caller]
fn check_refused(stream: &[u8], reason: NotHello) {
    assert_eq!(HelloScanner::default().advance(stream), Scan::NotHello(reason));
}

#[test]
fn other_streams_are_refused_at_the_first_wrong_byte() {
    check_refused(b"GET / HTTP/1.1", NotHello::OtherProtocol);
    check_refused(&[22, 2], NotHello::OtherProtocol);
    check_refused(&[22, 3, 5], NotHello::OtherProtocol);
    check_refused(&[22, 3, 1, 0, 4, 2], NotHello::OtherProtocol);
    check_refused(&[20, 3, 3, 0, 1, 1], NotHello::OtherProtocol);
    check_refused(&[22, 3, 1, 0, 0], NotHello::BadRecord);
    check_refused(&[22, 3, 1, 0xff, 0xff], NotHello::BadRecord);
    check_refused(&[22, 3, 1, 0, 4, 1, 0, 0x80, 0], NotHello::TooLong);
}

#[test]
fn a_second_hello_may_follow_a_change_cipher_spec() {
    let message = hello(&[]);
    let stream = [&[20, 3, 3, 0, 1, 1][..], &records(&message, 255)].concat();
    let expected = Scan::Complete {
        preamble_bytes: 0,
        message_bytes: message.len(),
        stream_bytes: stream.len(),
    };
    assert_eq!(HelloScanner::second().advance(&stream), expected);
    assert_eq!(collect_message(&stream, message.len()), message);
}

#[test]
fn a_proxy_header_may_stand_before_the_first_hello_alone() {
    let message = hello(&[]);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n";
    let stream = [&header[..], &records(&message, 7)].concat();
    let mut scanner = HelloScanner::default();
    for n in 0..stream.len() {
        assert_eq!(scanner.advance(&stream[..n]), Scan::NeedMore, "prefix {n}");
    }
    let expected = Scan::Complete {
        preamble_bytes: header.len(),
        message_bytes: message.len(),
        stream_bytes: stream.len(),
    };
    assert_eq!(scanner.advance(&stream), expected);
    assert_eq!(HelloScanner::default().advance(&stream), expected);
    assert_eq!(scanner.proxy_client(), Some("192.0.2.1:51234".parse().unwrap()));
    assert_eq!(collect_message(&stream[header.len()..], message.len()), message);
    assert_eq!(
        HelloScanner::second().advance(&stream),
        Scan::NotHello(NotHello::OtherProtocol)
    );
}

#[test]
fn one_byte_records_without_end_are_too_long() {
    let mut scanner = HelloScanner::default();
    let message = [&[1, 0, 0x7f, 0xf0][..], &vec![0; 20_000]].concat();
    assert_eq!(
        scanner.advance(&records(&message, 1)),
        Scan::NotHello(NotHello::TooLong)
    );
}

#[test]
fn a_hello_without_extension_block_is_whole() {
    let message = hello(&[]);
    let read = ClientHello::parse(&message).unwrap();
    assert!(!read.is_damaged);
    assert_eq!(read.extensions().count(), 0);
    assert_eq!(read.cipher_suites().collect::<Vec<_>>(), [0x0a0a, 0x1301]);
    assert_eq!((read.version(), read.random), (TlsVersion::TLS12, [7; 32]));
    assert_eq!(read.message_bytes, message.len());
}

#[test]
fn values_of_extensions_are_read() {
    let message = hello(&block(&[
        extension(ExtensionType::SERVER_NAME, &[0, 6, 0, 0, 3, b'a', b'.', b'b']),
        extension(ExtensionType::ALPN, &[0, 6, 2, b'h', b'2', 2, b'h', b'1']),
        extension(ExtensionType::SUPPORTED_VERSIONS, &[6, 0x7a, 0x7a, 3, 4, 3, 3]),
        extension(ExtensionType::SUPPORTED_GROUPS, &[0, 4, 0x11, 0xec, 0, 29]),
        extension(ExtensionType::EC_POINT_FORMATS, &[2, 0, 1]),
        extension(ExtensionType::ENCRYPTED_CLIENT_HELLO, &[]),
    ]));
    let read = ClientHello::parse(&message).unwrap();
    assert!(!read.is_damaged);
    assert_eq!(read.server_name(), Some(&b"a.b"[..]));
    assert_eq!(read.alpn().collect::<Vec<_>>(), [b"h2", b"h1"]);
    assert_eq!(read.version(), TlsVersion::TLS13);
    assert!(read.offers_post_quantum());
    assert_eq!(read.ec_point_formats(), [0, 1]);
    assert!(read.has(ExtensionType::ENCRYPTED_CLIENT_HELLO));
    assert!(!read.has(ExtensionType::PRE_SHARED_KEY));
}

#[test]
fn lying_lengths_are_damage_or_malformed() {
    let over = hello(&[0, 9, 0, 0, 0, 0]);
    assert!(ClientHello::parse(&over).unwrap().is_damaged);
    let inner = hello(&[0, 4, 0, 16, 0, 9]);
    assert!(ClientHello::parse(&inner).unwrap().is_damaged);
    assert_eq!(ClientHello::parse(&inner).unwrap().alpn().count(), 0);
    let mut cut = hello(&[]);
    cut.truncate(40);
    assert_eq!(ClientHello::parse(&cut).unwrap_err(), MalformedHello);
    let mut session = hello(&[]);
    session[38] = 33;
    assert_eq!(ClientHello::parse(&session).unwrap_err(), MalformedHello);
}

#[test]
fn an_empty_server_name_list_is_present_without_a_name() {
    let message = hello(&block(&[extension(ExtensionType::SERVER_NAME, &[])]));
    let read = ClientHello::parse(&message).unwrap();
    assert!(read.has(ExtensionType::SERVER_NAME));
    assert_eq!(read.server_name(), None);
}
