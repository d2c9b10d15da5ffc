#!/usr/bin/env python3
# Records real clients against a real TLS server.
"""Records real clients against `openssl s_server` in a network namespace of its own, and lists in `real.tsv` the
hellos as the server received them. Needs root or user namespaces, tcpdump, openssl, curl, gnutls-cli, python3.

The result differs from run to run (randoms, ports, times); the files here were recorded once.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import ja4 as reference

HERE = os.path.dirname(os.path.abspath(__file__))
GET = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | "
OPENSSL = GET + "openssl s_client -quiet -ign_eof "
# Name of the capture, tcpdump's options, s_server's options, MTU, clients.
RECORDINGS = [
    (
        "real_ethernet",
        ["-i", "lo"],
        [],
        65536,
        [
            "curl -sk https://127.0.0.1:4433/",
            "curl -sk --http1.1 https://localhost:4433/",
            "curl -sk 'https://[::1]:4433/'",
            "curl -sk --tls-max 1.2 https://127.0.0.1:4433/",
            OPENSSL + "-servername real.test -connect 127.0.0.1:4433",
            OPENSSL + "-alpn h2 -connect '[::1]:4433'",
            GET + "gnutls-cli --insecure --sni-hostname=real.test --port 4433 127.0.0.1",
            "python3 -c \"import ssl,urllib.request as u; u.urlopen('https://127.0.0.1:4433/', context=ssl._create_unverified_context()).read()\"",
        ],
    ),
    (
        "real_old_versions",
        ["-i", "lo"],
        ["-cipher", "ALL:@SECLEVEL=0"],
        65536,
        [f"{OPENSSL} -cipher ALL:@SECLEVEL=0 {version} -connect 127.0.0.1:4433" for version in ("-tls1", "-tls1_1", "-tls1_2")],
    ),
    ("real_retried", ["-i", "lo"], ["-groups", "P-384"], 65536, [OPENSSL + "-groups X25519:P-384 -connect 127.0.0.1:4433"]),
    (
        "real_resumed",
        ["-i", "lo"],
        [],
        65536,
        [
            GET + "openssl s_client -quiet -ign_eof -sess_out session.pem -connect 127.0.0.1:4433",
            GET + "openssl s_client -quiet -ign_eof -sess_in session.pem -connect 127.0.0.1:4433",
        ],
    ),
    ("real_segments", ["-i", "lo"], [], 300, ["curl -sk https://localhost:4433/", OPENSSL + "-connect 127.0.0.1:4433"]),
    ("real_sll", ["-i", "any", "-y", "LINUX_SLL"], [], 65536, ["curl -sk https://127.0.0.1:4433/"]),
    ("real_sll2", ["-i", "any", "-y", "LINUX_SLL2"], [], 65536, ["curl -sk 'https://[::1]:4433/'"]),
]


def hellos_of(log):
    found = re.findall(r"<<< [^\n]*ClientHello\n((?:    [^\n]*\n)+)", log)
    return [bytes.fromhex(re.sub(r"\s", "", rows)) for rows in found]


def main():
    if "--inside" not in sys.argv:
        options = ["--net"] if os.geteuid() == 0 else ["--map-root-user", "--net"]
        os.execvp("unshare", ["unshare", *options, sys.executable, __file__, "--inside"])
    run = lambda command: subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = ["file\tja4\tja3\thello_bytes\n"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=real.test -keyout key.pem -out cert.pem")
        for name, tcpdump, server, mtu, clients in RECORDINGS:
            run(f"ip link set lo down; ip link set lo mtu {mtu} gso_max_segs {1 if mtu < 1500 else 65535} up")
            time.sleep(0.5)
            capture = subprocess.Popen(["tcpdump", "-U", "-s", "0", "-w", f"{HERE}/{name}.pcap", *tcpdump, "tcp port 4433"])
            log = open("server.log", "w+b")
            accept = ["openssl", "s_server", "-www", "-msg", "-accept", "*:4433" if mtu > 1280 else "4433", "-key", "key.pem", "-cert", "cert.pem"]
            serving = subprocess.Popen(accept + server, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            time.sleep(1)
            for client in clients:
                run(client)
            time.sleep(1)
            for process in (serving, capture):
                process.terminate()
                process.wait()
            log.seek(0)
            for message in hellos_of(log.read().decode("latin-1")):
                lines.append(f"{name}.pcap\t{reference.ja4(message)}\t{reference.ja3(message)}\t{len(message)}\n")
    with open(f"{HERE}/real.tsv", "w") as out:
        out.write("".join(lines))


main()
