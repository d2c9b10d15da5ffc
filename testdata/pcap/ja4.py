"""JA4 and JA3 of a ClientHello, written from the published texts alone: the second opinion of the captures here."""

import hashlib
import struct


def is_grease(value):
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def u16s(data):
    return [struct.unpack_from("!H", data, at)[0] for at in range(0, len(data) - 1, 2)]


def parse(message):
    """Fields of a handshake message with its 4-byte header."""
    assert message[0] == 1, "not a ClientHello"
    body = message[4:]
    at = 34
    at += 1 + body[at]
    n = struct.unpack_from("!H", body, at)[0]
    ciphers = u16s(body[at + 2 : at + 2 + n])
    at += 2 + n
    at += 1 + body[at]
    extensions = []
    if at < len(body):
        at += 2
        while at < len(body):
            kind, n = struct.unpack_from("!HH", body, at)
            extensions.append((kind, body[at + 4 : at + 4 + n]))
            at += 4 + n
    return struct.unpack_from("!H", body)[0], ciphers, extensions


def ja4(message):
    version, ciphers, extensions = parse(message)
    first = {}
    for kind, data in extensions:
        first.setdefault(kind, data)
    offered = [v for v in u16s(first.get(43, b"\0")[1:]) if not is_grease(v)]
    version = max(offered, default=version)
    code = {0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3", 2: "s2"}.get(version, "00")
    ciphers = [c for c in ciphers if not is_grease(c)]
    kinds = [kind for kind, _ in extensions if not is_grease(kind)]
    alpn = first.get(16, b"")
    value = alpn[3 : 3 + alpn[2]] if len(alpn) > 2 else b""
    if not value:
        ends = "00"
    elif chr(value[0]).isalnum() and value[0] < 128 and chr(value[-1]).isalnum() and value[-1] < 128:
        ends = chr(value[0]) + chr(value[-1])
    else:
        ends = value.hex()[0] + value.hex()[-1]
    sni = "d" if 0 in kinds else "i"
    a = f"t{code}{sni}{min(len(ciphers), 99):02}{min(len(kinds), 99):02}{ends}"
    hashed = lambda text: hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12
    b = ",".join(f"{c:04x}" for c in sorted(ciphers))
    c = ",".join(f"{k:04x}" for k in sorted(k for k in kinds if k not in (0, 16)))
    algorithms = [s for s in u16s(first.get(13, b"\0\0")[2:]) if not is_grease(s)]
    if algorithms:
        c += "_" + ",".join(f"{s:04x}" for s in algorithms)
    return f"{a}_{hashed(b)}_{hashed(c)}"


def ja3(message):
    version, ciphers, extensions = parse(message)
    first = {}
    for kind, data in extensions:
        first.setdefault(kind, data)
    join = lambda values: "-".join(str(v) for v in values if not is_grease(v))
    groups = u16s(first.get(10, b"\0\0")[2:])
    formats = list(first.get(11, b"\0")[1:])
    text = f"{version},{join(ciphers)},{join(k for k, _ in extensions)},{join(groups)},{join(formats)}"
    return hashlib.md5(text.encode()).hexdigest()
