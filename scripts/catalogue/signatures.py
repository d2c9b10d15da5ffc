# Facts out of curl-impersonate's signature files (MIT): the ClientHello as a capture that the sensor reads, HTTP/2, headers.
"""A signature lists what a browser sent. The hello is written out again as bytes and put into a capture with its TCP
handshake, so that its fingerprints come from the sensor like all others."""

import dataclasses
import pathlib
import struct

TYPES = {
    "server_name": 0, "status_request": 5, "supported_groups": 10, "ec_point_formats": 11, "signature_algorithms": 13,
    "application_layer_protocol_negotiation": 16, "signed_certificate_timestamp": 18, "padding": 21,
    "extended_master_secret": 23, "compress_certificate": 27, "record_size_limit": 28, "delegated_credentials": 34,
    "session_ticket": 35, "pre_shared_key": 41, "supported_versions": 43, "psk_key_exchange_modes": 45, "keyshare": 51,
    "application_settings": 17513, "application_settings_new": 17613, "encrypted_client_hello": 65037,
    "renegotiation_info": 65281,
}
VERSIONS = {"TLS_VERSION_1_0": 0x0301, "TLS_VERSION_1_1": 0x0302, "TLS_VERSION_1_2": 0x0303, "TLS_VERSION_1_3": 0x0304}
GREASE = 0x0A0A
FAMILIES = {"chrome": ("Chrome", "BoringSSL"), "edge": ("Edge", "BoringSSL"), "firefox": ("Firefox", "NSS"), "safari": ("Safari", "Secure Transport")}


@dataclasses.dataclass
class Signature:
    id: str
    file: str
    client: str
    version: str
    stack: str
    user_agent: str
    h2_fp: str
    header_names: list
    hello: dict


def load_all(folder):
    import yaml

    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        yield load(path, yaml.safe_load(path.read_text()))


def load(path, document):
    browser, signature = document["browser"], document["signature"]
    client, stack = FAMILIES[browser["name"]]
    frames = signature["http2"]["frames"]
    headers = next(frame for frame in frames if frame["frame_type"] == "HEADERS")
    pairs = [line.split(": ", 1) for line in headers["headers"]]
    agent = next(value for name, value in pairs if name == "user-agent")
    # The file's name has the version with all its digits; YAML reads 17.0 as a number.
    version = path.stem.split("_")[1]
    return Signature(
        id="signature-" + path.stem.replace("_", "-").lower(), file=path.name, client=client, version=version, stack=stack,
        user_agent=agent, h2_fp=h2_fp(frames, headers), header_names=[name for name, _ in pairs], hello=signature["tls_client_hello"],
    )


def h2_fp(frames, headers):
    """As the demo's observer writes it; empty where the file has headers only."""
    settings = next((f["settings"] for f in frames if f["frame_type"] == "SETTINGS"), None)
    if settings is None:
        return ""
    window = next((f["window_size_increment"] for f in frames if f["frame_type"] == "WINDOW_UPDATE"), 0)
    text = ";".join(f"{s['key']}:{s['value']}" for s in settings)
    pseudo = ",".join(name[1] for name in headers["pseudo_headers"])
    return f"{text}|{window}|0|{pseudo}"


def u16_list(values):
    return b"".join(struct.pack(">H", value) for value in values)


def number(value, names):
    if value == "GREASE":
        return GREASE
    return value if isinstance(value, int) else names[value]


def extension(entry, name):
    kind = number(entry["type"], TYPES)
    body = b""
    if entry["type"] == "server_name":
        host = name.encode()
        body = struct.pack(">HBH", len(host) + 3, 0, len(host)) + host
    elif "alpn_list" in entry:
        items = b"".join(bytes([len(item)]) + item.encode() for item in entry["alpn_list"])
        body = struct.pack(">H", len(items)) + items
    elif "sig_hash_algs" in entry:
        items = u16_list(entry["sig_hash_algs"])
        body = struct.pack(">H", len(items)) + items
    elif "supported_versions" in entry:
        items = u16_list(number(v, VERSIONS) for v in entry["supported_versions"])
        body = bytes([len(items)]) + items
    elif "supported_groups" in entry:
        items = u16_list(number(v, {}) for v in entry["supported_groups"])
        body = struct.pack(">H", len(items)) + items
    elif "ec_point_formats" in entry:
        body = bytes([len(entry["ec_point_formats"])]) + bytes(entry["ec_point_formats"])
    return struct.pack(">HH", kind, len(body)) + body


def hello_bytes(hello, name):
    ciphers = u16_list(number(value, {}) for value in hello["ciphersuites"])
    extensions = b"".join(extension(entry, name) for entry in hello["extensions"])
    body = struct.pack(">H", VERSIONS[hello["handshake_version"]]) + bytes(32)
    body += bytes([32]) + bytes(32)
    body += struct.pack(">H", len(ciphers)) + ciphers + b"\x01\x00"
    body += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def capture_of(signature, name):
    """A capture of one connection that sends the hello."""
    data = hello_bytes(signature.hello, name)
    packets = [(True, 0x02, 100, 0, b""), (False, 0x12, 500, 101, b""), (True, 0x10, 101, 501, b""), (True, 0x18, 101, 501, data), (False, 0x10, 501, 101 + len(data), b"")]
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for i, (from_client, flags, seq, ack, payload) in enumerate(packets):
        ends = [(bytes([10, 0, 0, 1]), 40000), (bytes([10, 0, 0, 2]), 443)]
        (source, source_port), (target, target_port) = ends if from_client else ends[::-1]
        tcp = struct.pack(">HHIIBBHHH", source_port, target_port, seq, ack, 5 << 4, flags, 65535, 0, 0) + payload
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), i, 0, 64, 6, 0, source, target) + tcp
        out += struct.pack("<IIII", 1_700_000_000, i * 1000, len(ip), len(ip)) + ip
    return out
