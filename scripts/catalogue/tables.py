# The catalogue's tables: what is kept of a run, and how it is written (tab-separated, sorted, one fact a line).
"""clients.tsv has one line for each client run; tls.tsv, http2.tsv and headers.tsv name the clients that show a value."""

import pathlib
import re

CLIENT_FIELDS = ["id", "client", "version", "os", "kind", "stack", "basis", "date", "source", "user_agent"]
TLS_FIELDS = ["ja4", "ja4_norm", "alpn", "tls_version", "clients"]
HTTP2_FIELDS = ["h2_fp", "clients"]
HEADERS_FIELDS = ["http", "request", "order", "clients"]

# Destinations of the Fetch standard that are asked for in the same way in every browser measured here.
DESTINATIONS = {"": "other", "empty": "fetch"}


def system_of(agent):
    """The operating system that a browser's User-Agent names."""
    for word, name in [("iPhone", "iOS"), ("iPad", "iOS"), ("Android", "Android"), ("Windows", "Windows"), ("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")]:
        if word in agent:
            return name
    return ""


class Catalogue:
    def __init__(self):
        self.clients = {}
        # (values of a line) -> ids of clients
        self.tls, self.http2, self.headers = {}, {}, {}

    @classmethod
    def load(cls, folder):
        catalogue = cls()
        for line in read(folder / "clients.tsv"):
            catalogue.clients[line[0]] = dict(zip(CLIENT_FIELDS, line, strict=True))
        for name, table in [("tls", catalogue.tls), ("http2", catalogue.http2), ("headers", catalogue.headers)]:
            for line in read(folder / f"{name}.tsv"):
                table[tuple(line[:-1])] = set(line[-1].split(","))
        return catalogue

    def forget(self, client_id):
        for table in (self.tls, self.http2, self.headers):
            for key, ids in list(table.items()):
                ids.discard(client_id)
                if not ids:
                    del table[key]

    def add_client(self, client_id, client, version, system, kind, stack, basis, date, source, agent):
        self.forget(client_id)
        values = [client_id, client, version, system, kind, stack, basis, date, source, agent]
        self.clients[client_id] = dict(zip(CLIENT_FIELDS, (clean(value) for value in values), strict=True))

    def add_run(self, spec, version, date, hellos, requests):
        agents = [value for request in requests for name, value in request["headers"] if name.lower() == "user-agent"]
        agent = spec.user_agent or (agents[0] if agents else "")
        system = spec.os or system_of(agent)
        self.add_client(spec.id, spec.client, version, system, spec.kind, spec.stack, spec.basis, date, spec.source or f"{spec.client} {version} on Debian", agent)
        if spec.keep_hellos:
            self.add_hellos(spec.id, hellos)
        for request in requests:
            if request.get("scheme") != "https":
                continue
            if request.get("h2_fp"):
                self.http2.setdefault((request["h2_fp"],), set()).add(spec.id)
            names = [name for name, _ in request["headers"]]
            values = {name.lower(): value for name, value in request["headers"]}
            if spec.basis == "impersonation" and request is not requests[0]:
                continue
            kind = "navigation" if values.get("sec-fetch-mode") == "navigate" else values.get("sec-fetch-dest", "")
            kind = DESTINATIONS.get(kind, kind)
            if request["method"] not in ("GET", "HEAD"):
                kind += "+body"
            http = "2" if request["http_version"] == "2" else "1"
            order = ",".join(name for name in names if name.isascii())
            self.headers.setdefault((http, kind, order), set()).add(spec.id)

    def add_hellos(self, client_id, hellos):
        for hello in hellos:
            key = (hello["ja4"], hello["ja4_norm"], " ".join(hello.get("alpn", [])), hello["tls_version"])
            self.tls.setdefault(key, set()).add(client_id)

    def add_signature(self, signature, revision, date, hellos):
        source = f"curl-impersonate tests/signatures/{signature.file} at {revision[:12]}"
        self.add_client(signature.id, signature.client, signature.version, system_of(signature.user_agent), "browser", signature.stack, "signature", date, source, signature.user_agent)
        self.add_hellos(signature.id, hellos)
        if signature.h2_fp:
            self.http2.setdefault((signature.h2_fp,), set()).add(signature.id)
        self.headers.setdefault(("2", "navigation", ",".join(signature.header_names)), set()).add(signature.id)

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        lines = [[client[field] for field in CLIENT_FIELDS] for client in self.clients.values()]
        write(folder / "clients.tsv", "one client run a line", CLIENT_FIELDS, lines)
        for name, purpose, fields, table in [
            ("tls", "fingerprints of ClientHellos and the clients that sent them", TLS_FIELDS, self.tls),
            ("http2", "HTTP/2 settings, window, priorities and pseudo-headers, and the clients that sent them", HTTP2_FIELDS, self.http2),
            ("headers", "orders of header names by what is asked for, and the clients that sent them", HEADERS_FIELDS, self.headers),
        ]:
            lines = [[*key, ",".join(sorted(ids))] for key, ids in table.items()]
            write(folder / f"{name}.tsv", purpose, fields, lines)


def clean(text):
    """One line without tabs, and without the kernel of the machine that text browsers tell."""
    text = "".join(" " if c in "\t\r\n" else c for c in str(text)).strip()
    return re.sub(r"Linux \d[\w.+-]* x86_64", "Linux x86_64", text)


def read(path):
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")][1:]


def write(path: pathlib.Path, purpose, fields, lines):
    text = f"# {purpose}; made by scripts/catalogue/run, not by hand\n" + "\t".join(fields) + "\n"
    path.write_text(text + "".join("\t".join(line) + "\n" for line in sorted(lines)))
