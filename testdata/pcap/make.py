#!/usr/bin/env python3
# Makes the captures of this folder that are not recorded.
"""Makes the captures of this folder that are not recorded, and the list of the hellos in them (`made.tsv`).

Each capture is one wire shape of a ClientHello, or one fault. Same bytes on every run; `--check` compares.
"""

import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import ja4 as reference

HERE = os.path.dirname(os.path.abspath(__file__))
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
START = 1_700_000_000

# ---- hellos ----


def vec16(data):
    return struct.pack("!H", len(data)) + data


def extension(kind, data):
    return struct.pack("!H", kind) + vec16(data)


def hello(mark, ciphers, extensions, version=0x0303, session=b""):
    body = struct.pack("!H", version) + bytes([mark]) * 32 + bytes([len(session)]) + session
    body += vec16(b"".join(struct.pack("!H", c) for c in ciphers)) + b"\x01\x00"
    if extensions:
        body += vec16(b"".join(extensions))
    return b"\x01" + struct.pack("!I", len(body))[1:] + body


def sni(name):
    return extension(0, vec16(b"\0" + vec16(name)))


def alpn(*values):
    return extension(16, vec16(b"".join(bytes([len(v)]) + v for v in values)))


def u16_list(*values):
    return vec16(b"".join(struct.pack("!H", v) for v in values))


SMALL = hello(
    1,
    [0xC02B, 0xC02F, 0x00FF],
    [sni(b"small.test"), extension(10, u16_list(29, 23)), extension(11, b"\x01\0"), extension(13, u16_list(0x0403, 0x0804))],
)
# Like a browser of 2026: GREASE everywhere, a post-quantum key share, Encrypted ClientHello.
BROWSER = hello(
    2,
    [0x1A1A, 0x1301, 0x1302, 0x1303, 0xC02B],
    [
        extension(0x2A2A, b""),
        sni(b"browser.test"),
        extension(10, u16_list(0x3A3A, 0x11EC, 29)),
        alpn(b"h2", b"http/1.1"),
        extension(13, u16_list(0x4A4A, 0x0403, 0x0804, 0x0401)),
        extension(43, b"\x06\x5a\x5a\x03\x04\x03\x03"),
        extension(51, vec16(struct.pack("!HH", 0x11EC, 1216) + bytes(range(256)) * 4 + bytes(192))),
        extension(0xFE0D, bytes(200)),
        extension(0x6A6A, b"\0"),
    ],
    session=b"\x07" * 32,
)
OLD = hello(3, [0x0005, 0x000A], [], version=0x0301)
ODD_ALPN = hello(4, [0x1301], [alpn(b"\xba\xad"), extension(43, b"\x02\x03\x04")])
LARGE = hello(5, [0x1301, 0x1302], [sni(b"large.test"), extension(51, vec16(struct.pack("!HH", 29, 20000) + b"\x55" * 20000))])
SECOND = hello(2, [0x1301], [sni(b"browser.test"), extension(44, vec16(b"cookie")), extension(43, b"\x02\x03\x04")])


def records(message, size=16384, version=0x0301):
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16" + struct.pack("!HH", version, len(p)) + p for p in pieces)


# ---- segments ----


class Talk:
    """A conversation; the methods give (from_client, seq, ack, flags, payload, options)."""

    def __init__(self, port=40000, client_seq=1000, server_seq=9000, v6=False, server_port=443):
        self.client, self.server = port, server_port
        self.seq = {True: client_seq, False: server_seq}
        self.v6 = v6

    def send(self, from_client, flags, payload=b"", options=b"", advance=True):
        seq = self.seq[from_client]
        ack = self.seq[not from_client] if flags & ACK else 0
        if advance:
            used = len(payload) + bool(flags & SYN) + bool(flags & FIN)
            self.seq[from_client] = (seq + used) % 2**32
        return (self, from_client, seq % 2**32, ack, flags, payload, options)

    def c(self, payload=b"", flags=ACK, **more):
        return self.send(True, flags, payload, **more)

    def s(self, payload=b"", flags=ACK, **more):
        return self.send(False, flags, payload, **more)

    def open(self):
        syn = self.send(True, SYN, options=bytes.fromhex("020405b40402080a00000001000000000103030a"))
        return [syn, self.send(False, SYN | ACK, options=bytes.fromhex("020405b4")), self.c()]

    def pieces(self, stream, *lengths):
        """The stream cut at the lengths; the last one repeats."""
        cut, at = [], 0
        lengths = list(lengths)
        while at < len(stream):
            n = lengths.pop(0) if len(lengths) > 1 else lengths[0]
            cut.append(self.c(stream[at : at + n]))
            at += n
        return cut

    def end(self):
        """The server acknowledges and answers, the client goes on, both close."""
        answer = [self.s(), self.s(records(b"\x02\0\0\0")), self.c(b"\x14\x03\x03\0\x01\x01")]
        return answer + [self.c(flags=FIN | ACK), self.s(flags=FIN | ACK), self.c()]


def whole(message=SMALL, **more):
    talk = Talk(**more)
    return talk.open() + [talk.c(records(message))] + talk.end()


def cut(message, *lengths, size=16384, **more):
    talk = Talk(**more)
    return talk.open() + talk.pieces(records(message, size), *lengths) + talk.end()


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def tcp(segment, source, target):
    talk, from_client, seq, ack, flags, payload, options = segment
    ports = (talk.client, talk.server) if from_client else (talk.server, talk.client)
    header = struct.pack("!HHIIBBHHH", *ports, seq, ack, (20 + len(options)) << 2, flags, 64240, 0, 0)
    data = header + options + payload
    pseudo = source + target + struct.pack("!IHBB", len(data), 0, 0, 6)
    return data[:16] + struct.pack("!H", checksum(pseudo + data)) + data[18:]


def ipv4(segment, options=b""):
    source, target = bytes([192, 0, 2, 10]), bytes([192, 0, 2, 1])
    if not segment[1]:
        source, target = target, source
    data = tcp(segment, source, target)
    header = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(data), 1, 0x4000, 64, 6, 0)
    header += source + target + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + data


def ipv6(segment, chain=None):
    source = bytes.fromhex("20010db8") + bytes(11) + b"\x0a"
    target = bytes.fromhex("20010db8") + bytes(11) + b"\x01"
    if not segment[1]:
        source, target = target, source
    data = tcp(segment, source, target)
    kind = 6
    if chain:
        kind, data = 0, chain + data
    return struct.pack("!IHBB", 0x60000000, len(data), kind, 60) + source + target + data


def network(segment):
    return ipv6(segment) if segment[0].v6 else ipv4(segment)


def ethernet(packet, tags=b"", trailer=b""):
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return bytes.fromhex("020000000002020000000001") + tags + kind + packet + trailer


def family(packet, order, v6=30):
    return struct.pack(order + "I", v6 if packet[0] >> 4 == 6 else 2) + packet


def sll(packet):
    return struct.pack("!HHH8sH", 0, 1, 6, b"\2\0\0\0\0\1\0\0", 0x86DD if packet[0] >> 4 == 6 else 0x0800) + packet


def sll2(packet):
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return struct.pack("!HHIHBB8s", kind, 0, 2, 1, 0, 6, b"\2\0\0\0\0\1\0\0") + packet


# ---- files ----


def pcap(frames, link=1, order="<", nanoseconds=False, snaplen=262144):
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for n, frame in enumerate(frames):
        part = n * 1_000_000 + 7 if nanoseconds else n * 1000
        out += struct.pack(order + "IIII", START, part, min(len(frame), snaplen), len(frame)) + frame[:snaplen]
    return out


def block(kind, body):
    body += b"\0" * (-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def pcapng(frames, links=(1,), snaplens=(0, 0)):
    """Frames go round the interfaces."""
    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    for link, snaplen in zip(links, snaplens):
        out += block(1, struct.pack("<HHI", link, 0, snaplen) + struct.pack("<HHI", 9, 1, 9) + struct.pack("<HH", 0, 0))
    for n, frame in enumerate(frames):
        at = START * 10**9 + n * 1_000_000
        out += block(6, struct.pack("<IIIII", n % len(links), at >> 32, at & 0xFFFFFFFF, len(frame), len(frame)) + frame)
    return out


def eth(segments):
    return pcap([ethernet(network(s)) for s in segments])


def overlapping(conflict):
    talk = Talk()
    opening = talk.open()
    stream = records(SMALL)
    first, rest = talk.pieces(stream, 60, 1000)[:2]
    changed = bytearray(stream[30:90])
    if conflict:
        changed[:20] = bytes(20)
    again = (talk, True, first[2] + 30, first[3], ACK, bytes(changed), b"")
    return opening + [first, again, rest] + talk.end()


def out_of_order(reverse=False):
    talk = Talk()
    opening = talk.open()
    pieces = talk.pieces(records(BROWSER), 300)
    order = pieces[::-1] if reverse else [p for pair in zip(pieces[1::2], pieces[::2]) for p in pair] + pieces[len(pieces) // 2 * 2 :]
    return opening + order + talk.end()


def repeated():
    talk = Talk()
    opening = talk.open()
    pieces = talk.pieces(records(SMALL), 50)
    return opening + [p for p in pieces for _ in range(2)] + talk.end()


def retried():
    talk = Talk()
    start = talk.open() + [talk.c(records(BROWSER)), talk.s(records(b"\x02\0\0\x02\x03\x03"))]
    return start + [talk.c(b"\x14\x03\x03\0\x01\x01" + records(SECOND, 40, 0x0303))] + talk.end()


def forged():
    """Somebody off the path sends a RST, a SYN and a hello into a living connection."""
    talk = Talk()
    good = talk.open() + [talk.c(records(SMALL)), talk.s(), talk.s(b"\x16\x03\x03\0\1\2"), talk.c(b"\x17\x03\x03\0\1\1")]
    forger = Talk(client_seq=500_000, server_seq=700_000)
    bad = [forger.c(flags=RST), forger.s(flags=RST | ACK), forger.c(flags=SYN), forger.c(records(OLD))]
    return good + bad + [talk.c(b"\x17\x03\x03\0\1\2")] + talk.end()


def reused():
    second = Talk(client_seq=3_000_000_000, server_seq=2_000_000_000)
    return whole() + second.open() + [second.c(records(OLD))] + second.end()


def fast_open():
    talk = Talk()
    syn = talk.send(True, SYN, records(SMALL), options=bytes.fromhex("22020101"))
    return [syn, talk.s(flags=SYN | ACK), talk.c()] + talk.end()


def others():
    web, half, gone = Talk(port=40001, server_port=80), Talk(port=40002), Talk(port=40003)
    return (
        web.open()
        + [web.c(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), web.s(b"HTTP/1.1 200 OK\r\n\r\n")]
        + half.open()
        + [half.c(records(SMALL)[:50])]
        + gone.open()
        + [gone.c(flags=RST)]
        + whole()
    )


def captures():
    """Name, bytes, and for each hello the number of the frame that completes it and the message."""
    small, four = whole(), 4
    yield "ethernet.pcap", eth(small), [(4, SMALL)]
    yield "browser.pcap", eth(cut(BROWSER, 1448)), [(5, BROWSER)]
    yield "no_extensions.pcap", eth(whole(OLD)), [(4, OLD)]
    yield "odd_alpn.pcap", eth(whole(ODD_ALPN)), [(4, ODD_ALPN)]
    yield "ipv6.pcap", eth(whole(v6=True)), [(4, SMALL)]
    chain = b"\x3c\0\x01\x04\0\0\0\0" + b"\x06\0\x01\x04\0\0\0\0"
    yield "ipv6_extensions.pcap", pcap([ethernet(ipv6(s, chain)) for s in small]), [(4, SMALL)]
    yield "ipv4_options.pcap", pcap([ethernet(ipv4(s, b"\x94\x04\0\0")) for s in small]), [(4, SMALL)]
    yield "trailer.pcap", pcap([ethernet(ipv4(s), trailer=b"\xaa" * 14) for s in small]), [(4, SMALL)]
    tag, service = b"\x81\0\0\x07", b"\x88\xa8\0\x09"
    yield "vlan.pcap", pcap([ethernet(ipv4(s), tag) for s in small]), [(4, SMALL)]
    yield "qinq.pcap", pcap([ethernet(ipv4(s), service + tag) for s in small]), [(4, SMALL)]
    yield "vlan_ipv6.pcap", pcap([ethernet(ipv6(s), tag) for s in small]), [(4, SMALL)]
    both = [n for pair in zip(small, whole(v6=True, port=41000)) for n in pair]
    twice = [(7, SMALL), (8, SMALL)]
    yield "raw.pcap", pcap([network(s) for s in both], 101), twice
    yield "ipv4_link.pcap", pcap([ipv4(s) for s in small], 228), [(4, SMALL)]
    yield "ipv6_link.pcap", pcap([ipv6(s) for s in small], 229), [(4, SMALL)]
    yield "null.pcap", pcap([family(network(s), "<") for s in both], 0), twice
    yield "null_big_endian.pcap", pcap([family(network(s), ">", 24) for s in both], 0, ">"), twice
    yield "loop.pcap", pcap([family(network(s), ">", 24) for s in both], 108), twice
    yield "sll.pcap", pcap([sll(network(s)) for s in both], 113), twice
    yield "sll2.pcap", pcap([sll2(network(s)) for s in both], 276), twice
    yield "nanoseconds.pcap", pcap([ethernet(ipv4(s)) for s in small], nanoseconds=True), [(4, SMALL)]
    yield "two_interfaces.pcapng", pcapng([ethernet(ipv4(s)) for s in small], (1, 1)), [(4, SMALL)]
    turns = [ethernet(ipv4(s)) if n % 2 == 0 else ipv4(s) for n, s in enumerate(small)]
    yield "mixed_links.pcapng", pcapng(turns, (1, 101)), [(4, SMALL)]
    yield "mixed_snapshots.pcapng", pcapng([ethernet(ipv4(s)) for s in small], (1, 1), (65535, 262144)), [(4, SMALL)]
    sections = pcapng([ethernet(ipv4(s)) for s in small]) + pcapng([sll(ipv4(s)) for s in whole(OLD, port=40010)], (113,))
    yield "two_sections.pcapng", sections, [(4, SMALL), (len(small) + 4, OLD)]

    n = len(records(BROWSER))
    yield "segments_of_40.pcap", eth(cut(BROWSER, 40)), [(3 + -(-n // 40), BROWSER)]
    yield "first_bytes_alone.pcap", eth(cut(SMALL, 1, 1, 1, 1, 1, 1000)), [(9, SMALL)]
    yield "out_of_order.pcap", eth(out_of_order()), [(3 + -(-n // 300), BROWSER)]
    yield "reversed.pcap", eth(out_of_order(True)), [(3 + -(-n // 300), BROWSER)]
    pieces = -(-len(records(SMALL)) // 50)
    yield "repeated.pcap", eth(repeated()), [(3 + 2 * pieces - 1, SMALL)]
    yield "overlap.pcap", eth(overlapping(False)), [(6, SMALL)]
    yield "overlap_conflict.pcap", eth(overlapping(True)), [(6, SMALL)]
    yield "records_of_1.pcap", eth(cut(SMALL, 700, size=1)), [(3 + -(-6 * len(SMALL) // 700), SMALL)]
    yield "records_of_64.pcap", eth(cut(BROWSER, 1448, size=64)), [(5, BROWSER)]
    yield "large_hello.pcap", eth(cut(LARGE, 1448)), [(3 + -(-len(records(LARGE)) // 1448), LARGE)]
    yield "sequence_wrap.pcap", eth(cut(SMALL, 50, client_seq=2**32 - 60, server_seq=2**32 - 1)), [(3 + pieces, SMALL)]
    yield "retried.pcap", eth(retried()), [(four, BROWSER), (6, SECOND)]
    yield "no_syn.pcap", eth(cut(SMALL, 50)[3:]), [(pieces, SMALL)]
    yield "fast_open.pcap", eth(fast_open()), [(1, SMALL)]
    yield "forged.pcap", eth(forged()), [(4, SMALL), (11, OLD)]
    yield "port_reused.pcap", eth(reused()), [(4, SMALL), (len(whole()) + 4, OLD)]
    yield "other_connections.pcap", eth(others()), [(len(others()) - 6, SMALL)]

    good = eth(small + whole(OLD, port=40009))
    yield "fault_cut_file.pcap", good[: len(eth(small)) + 150], [(4, SMALL)]
    broken = bytearray(good)
    at = 24 + sum(16 + len(ethernet(network(s))) for s in small[:6])
    broken[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
    yield "fault_bad_length.pcap", bytes(broken), [(4, SMALL)]
    flipped = [bytearray(ethernet(network(s))) for s in small]
    flipped[0][14] ^= 0x20  # the version of IP
    flipped[5][46] ^= 0xF0  # the length of the TCP header
    yield "fault_flipped_bits.pcap", pcap([bytes(f) for f in flipped]), [(4, SMALL)]
    yield "fault_short_snapshot.pcap", pcap([ethernet(network(s)) for s in small], snaplen=96), []
    yield "fault_unknown_link.pcap", pcap([bytes(40)], 105), []
    yield "fault_unknown_link.pcapng", pcapng([bytes(40)], (105,)), []
    half = [n for s in small for n in (bytes(40), ethernet(ipv4(s)))]
    yield "fault_half_unknown.pcapng", pcapng(half, (105, 1)), [(8, SMALL)]
    yield "fault_cut_block.pcapng", pcapng([ethernet(ipv4(s)) for s in small])[:-100], [(4, SMALL)]
    yield "fault_garbage.pcap", bytes(range(256)) * 2, []
    yield "fault_empty.pcap", b"", []
    yield "fault_header_only.pcap", eth([]), []


def main():
    lines = ["file\tframe\tja4\tja3\thello_bytes\n"]
    files = []
    for name, data, hellos in captures():
        files.append((name, data))
        for frame, message in hellos:
            lines.append(f"{name}\t{frame}\t{reference.ja4(message)}\t{reference.ja3(message)}\t{len(message)}\n")
    files.append(("made.tsv", "".join(lines).encode()))
    for name, data in files:
        path = os.path.join(HERE, name)
        if "--check" in sys.argv:
            with open(path, "rb") as known:
                assert known.read() == data, f"{name} is not what make.py makes: run testdata/pcap/make.py"
        else:
            with open(path, "wb") as out:
                out.write(data)


main()
