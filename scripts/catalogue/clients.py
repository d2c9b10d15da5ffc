# The programs and libraries of the catalogue: how each is run and how it says its version.
"""Each client is one `Client`; a step is a command line. `kind` is what `ja4-identity` knows: browser, library, tool."""

import dataclasses
import pathlib
import shutil
import typing

FIRST_NUMBER = r"(\d+(?:\.\d+)+)"


@dataclasses.dataclass
class Client:
    # Unique, lower case, without spaces.
    id: str
    # Family, as `ja4-identity` names it.
    client: str
    kind: str
    # The library that makes the ClientHello.
    stack: str
    steps: list = dataclasses.field(default_factory=list)
    version_command: list = dataclasses.field(default_factory=list)
    version_pattern: str = FIRST_NUMBER
    version: str = ""
    os: str = "Linux"
    basis: str = "measured"
    source: str = ""
    # A program that must be there.
    needs: str = ""
    # Takes (spec, env, work) instead of `steps`.
    run: typing.Callable | None = None
    # False: the hellos are not the client's usual ones (HTTP/2 switched off, for instance).
    keep_hellos: bool = True
    # The User-Agent that the client would send, where the run sends another one.
    user_agent: str = ""


@dataclasses.dataclass
class Places:
    tools: pathlib.Path | None
    impersonators: pathlib.Path | None
    work: pathlib.Path
    ca: pathlib.Path
    name: str

    @property
    def url(self):
        return f"https://{self.name}/articles/1"


PYTHON = {
    "urllib": ("Python-urllib", "import sys; print(sys.version.split()[0])", "import urllib.request as r\nfor i in '12': r.urlopen('{url}?'+i).read()"),
    "http-client": ("Python http.client", "import sys; print(sys.version.split()[0])", "import http.client as h\nc=h.HTTPSConnection('{name}')\nc.request('GET','/')\nc.getresponse().read()"),
    "requests": ("Python Requests", "import requests; print(requests.__version__)", "import requests as r\nr.get('{url}'); r.post('{url}', json={{'a': 1}}); s=r.Session(); s.get('{url}'); s.get('{url}')"),
    "urllib3": ("Python urllib3", "import urllib3; print(urllib3.__version__)", "import urllib3 as u\np=u.PoolManager(ca_certs='{ca}')\np.request('GET','{url}')"),
    "httpx": ("Python HTTPX", "import httpx; print(httpx.__version__)", "import httpx as h\nh.get('{url}'); h.post('{url}', json={{'a': 1}})"),
    "httpx-http2": ("Python HTTPX", "import httpx; print(httpx.__version__)", "import httpx as h\nwith h.Client(http2=True) as c: c.get('{url}'); c.get('{url}')"),
    "aiohttp": ("Python aiohttp", "import aiohttp; print(aiohttp.__version__)", "import aiohttp as a, asyncio\nasync def m():\n  async with a.ClientSession() as s:\n    async with s.get('{url}') as r: await r.read()\n    async with s.post('{url}', json={{'a': 1}}) as r: await r.read()\nasyncio.run(m())"),
    "pycurl": ("PycURL", "import pycurl; print(pycurl.version)", "import pycurl as p\nc=p.Curl(); c.setopt(p.URL,'{url}'); c.setopt(p.CAINFO,'{ca}'); c.setopt(p.WRITEFUNCTION,lambda b: None); c.perform()"),
    "scrapy": ("Scrapy", "import scrapy; print(scrapy.__version__)", "import scrapy\nfrom scrapy.crawler import CrawlerProcess\nclass S(scrapy.Spider):\n  name='s'; start_urls=['{url}']\n  def parse(self, r): pass\np=CrawlerProcess({{'LOG_ENABLED': False, 'TELNETCONSOLE_ENABLED': False}}); p.crawl(S); p.start()"),
}

NODE = {
    "https": ("Node.js https", "process.version", "const g=n=>require('https').get('{url}',r=>{{r.resume();r.on('end',()=>n>1&&g(n-1))}});g(2)"),
    "fetch": ("Node.js fetch", "process.version", "fetch('{url}').then(r=>r.text()).then(()=>fetch('{url}',{{method:'POST',body:'{{}}',headers:{{'content-type':'application/json'}}}})).then(r=>r.text())"),
    "undici": ("undici", "require('undici/package.json').version", "require('undici').request('{url}').then(r=>r.body.text())"),
    "axios": ("axios", "require('axios/package.json').version", "const a=require('axios');a.get('{url}').then(()=>a.post('{url}',{{a:1}})).catch(e=>0)"),
    "got": ("got", "JSON.parse(require('fs').readFileSync('node_modules/got/package.json')).version", "import('got').then(g=>g.default('{url}'))"),
    "node-fetch": ("node-fetch", "JSON.parse(require('fs').readFileSync('node_modules/node-fetch/package.json')).version", "import('node-fetch').then(f=>f.default('{url}')).then(r=>r.text())"),
}

GO = """package main
import ("io"; "net/http"; "strings"; "crypto/tls"; "crypto/x509"; "os")
func main() {
  pem, _ := os.ReadFile("@CA@"); pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem)
  tr := http.DefaultTransport.(*http.Transport).Clone(); tr.TLSClientConfig = &tls.Config{RootCAs: pool}
  if len(os.Args) > 1 { tr.ForceAttemptHTTP2 = false; tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}; tr.TLSClientConfig.NextProtos = nil }
  c := &http.Client{Transport: tr}
  for i := 0; i < 2; i++ { r, err := c.Get("@URL@"); if err != nil { panic(err) }; io.Copy(io.Discard, r.Body); r.Body.Close() }
  r, err := c.Post("@URL@", "application/json", strings.NewReader("{}")); if err == nil { io.Copy(io.Discard, r.Body); r.Body.Close() }
}
"""

JAVA_CLIENT = """import java.net.*; import java.net.http.*;
public class ByClient { public static void main(String[] a) throws Exception {
  var c = HttpClient.newHttpClient();
  for (int i = 0; i < 2; i++) c.send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()); } }
"""
JAVA_URL = """import java.net.*;
public class ByUrl { public static void main(String[] a) throws Exception {
  for (int i = 0; i < 2; i++) { var c = (HttpURLConnection) new URL(a[0]).openConnection(); c.getInputStream().readAllBytes(); } } }
"""
JAVA_OKHTTP = """import okhttp3.*;
public class ByOkhttp { public static void main(String[] a) throws Exception {
  var c = new OkHttpClient();
  for (int i = 0; i < 2; i++) c.newCall(new Request.Builder().url(a[0]).build()).execute().close();
  c.newCall(new Request.Builder().url(a[0]).post(RequestBody.create("{}", MediaType.get("application/json"))).build()).execute().close();
  System.exit(0); } }
"""
JAVA_APACHE = """import org.apache.hc.client5.http.classic.methods.*; import org.apache.hc.client5.http.impl.classic.*;
public class ByApache { public static void main(String[] a) throws Exception {
  try (var c = HttpClients.createSystem()) { for (int i = 0; i < 2; i++) c.execute(new HttpGet(a[0]), r -> null); } } }
"""


def all_clients(places):
    url, ca, name, work = places.url, str(places.ca), places.name, places.work
    found = [
        Client("curl", "curl", "tool", "OpenSSL", [["curl", "-s", url], ["curl", "-s", "-d", "a=1", url], ["curl", "-s", "-I", url]], ["curl", "--version"], needs="curl"),
        Client("curl-http1", "curl", "tool", "OpenSSL", [["curl", "-s", "--http1.1", url], ["curl", "-s", "--http1.1", "-d", "a=1", url], ["curl", "-s", "--http1.1", "-r", "0-9", url]], ["curl", "--version"], needs="curl"),
        Client("wget", "Wget", "tool", "GnuTLS", [["wget", "-q", "-O", "/dev/null", f"--ca-certificate={ca}", url]], ["wget", "--version"], needs="wget"),
        Client("openssl-s-client", "openssl s_client", "tool", "OpenSSL", [["sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect {name}:443"]], ["openssl", "version"], needs="openssl"),
        Client("gnutls-cli", "gnutls-cli", "tool", "GnuTLS", [["sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | gnutls-cli --x509cafile {ca} {name}"]], ["gnutls-cli", "--version"], needs="gnutls-cli"),
        Client("git", "git", "tool", "GnuTLS", [["git", "ls-remote", f"https://{name}/x.git"]], ["git", "--version"], needs="git"),
        Client("wrk", "wrk", "tool", "OpenSSL", [["wrk", "-t1", "-c2", "-d1", url]], ["wrk", "-v"], needs="wrk"),
        Client("ab", "ApacheBench", "tool", "OpenSSL", [["ab", "-n", "3", "-c", "1", url]], ["ab", "-V"], r"Version (\d[\d.]+)", needs="ab"),
        Client("siege", "siege", "tool", "OpenSSL", [["siege", "-c", "1", "-r", "2", "-q", url]], ["siege", "--version"], r"(\d+\.\d+\.\d+)", needs="siege"),
        Client("h2load", "h2load", "tool", "OpenSSL", [["h2load", "-n", "3", "-c", "1", url]], ["h2load", "--version"], needs="h2load"),
        Client("hey", "hey", "tool", "Go", [["hey", "-n", "4", "-c", "1", url]], ["dpkg-query", "-W", "hey"], needs="hey"),
        Client("hey-http2", "hey", "tool", "Go", [["hey", "-h2", "-n", "4", "-c", "1", url]], ["dpkg-query", "-W", "hey"], needs="hey"),
        Client("nmap", "Nmap", "tool", "OpenSSL", [["nmap", "-Pn", "-n", "-p", "443", "--script", "http-title,http-headers", name]] * 3, ["nmap", "--version"], needs="nmap"),
        Client("sqlmap", "sqlmap", "tool", "OpenSSL", [["sqlmap", "--batch", "-u", f"https://{name}/search?q=1", "--technique=B", "--smart"]], ["dpkg-query", "-W", "sqlmap"], needs="sqlmap"),
        Client("ffuf", "ffuf", "tool", "Go", [["sh", "-c", f"printf 'a\\nb\\n' > w.txt; ffuf -s -k -w w.txt -u https://{name}/FUZZ"]], ["dpkg-query", "-W", "ffuf"], needs="ffuf"),
        Client("gobuster", "gobuster", "tool", "Go", [["sh", "-c", f"printf 'a\\nb\\n' > w.txt; gobuster dir -q -k -w w.txt -u https://{name}"]], ["dpkg-query", "-W", "gobuster"], needs="gobuster"),
        Client("dirb", "dirb", "tool", "OpenSSL", [["sh", "-c", f"printf 'a\\nb\\n' > w.txt; dirb https://{name}/ w.txt -S"]], ["dpkg-query", "-W", "dirb"], needs="dirb"),
        Client("lynx", "Lynx", "browser", "GnuTLS", [["lynx", "-source", url]], ["lynx", "--version"], needs="lynx"),
        Client("w3m", "w3m", "browser", "OpenSSL", [["w3m", "-dump_source", "-o", f"ssl_ca_file={ca}", url]], ["dpkg-query", "-W", "w3m"], needs="w3m"),
        Client("links", "Links", "browser", "OpenSSL", [["links", "-source", "-ssl.certificates", "0", url]], ["links", "-version"], needs="links"),
        Client("elinks", "ELinks", "browser", "GnuTLS", [["elinks", "-source", "1", "-no-connect", url]], ["elinks", "-version"], needs="elinks"),
        Client("aria2", "aria2", "tool", "GnuTLS", [["aria2c", "-q", "--async-dns=false", f"--ca-certificate={ca}", "--allow-overwrite=true", "-d", str(work), "-o", "aria.out", url]], ["aria2c", "--version"], needs="aria2c"),
        Client("axel", "Axel", "tool", "OpenSSL", [["axel", "-q", "-k", "-n", "1", "-o", str(work / "axel.out"), url]], ["axel", "--version"], needs="axel"),
        Client("perl-lwp", "libwww-perl", "library", "OpenSSL", [["perl", "-MLWP::UserAgent", "-e", f"$a=LWP::UserAgent->new; $a->get('{url}'); $a->post('{url}', {{a=>1}})"]], ["perl", "-MLWP", "-e", "print $LWP::VERSION"], needs="perl"),
        Client("perl-http-tiny", "HTTP::Tiny", "library", "OpenSSL", [["perl", "-MHTTP::Tiny", "-e", f"HTTP::Tiny->new(verify_SSL=>0)->get('{url}')"]], ["perl", "-MHTTP::Tiny", "-e", "print $HTTP::Tiny::VERSION"], needs="perl"),
        Client("ruby-net-http", "Ruby", "library", "OpenSSL", [["ruby", "-rnet/http", "-e", f"Net::HTTP.get(URI('{url}')); Net::HTTP.post(URI('{url}'), 'a=1')"]], ["ruby", "--version"], needs="ruby"),
        Client("php-stream", "PHP", "library", "OpenSSL", [["php", "-r", f"file_get_contents('{url}');"]], ["php", "--version"], needs="php"),
        Client("php-curl", "PHP cURL", "library", "OpenSSL", [["php", "-r", f"$c=curl_init('{url}'); curl_setopt($c, CURLOPT_CAINFO, '{ca}'); curl_setopt($c, CURLOPT_RETURNTRANSFER, 1); curl_exec($c);"]], ["php", "--version"], needs="php"),
    ]
    if places.tools:
        found += python_clients(places) + node_clients(places)
        found += rust_clients(places) + java_libraries(places)
    found += go_clients(places) + java_clients(places)
    if places.impersonators:
        found += impersonators(places)
    return found


def python_clients(places):
    python = str(places.tools.resolve() / "py" / "bin" / "python")
    fill = {"url": places.url, "name": places.name, "ca": str(places.ca)}
    return [
        Client(f"python-{key}", client, "library", "OpenSSL", [[python, "-c", code.format(**fill)]], [python, "-c", version], FIRST_NUMBER, needs=python)
        for key, (client, version, code) in PYTHON.items()
    ]


def node_clients(places):
    tools = places.tools.resolve()
    fill = {"url": places.url, "name": places.name}

    def command(code):
        return ["sh", "-c", 'cd "$0" && exec node -e "$1"', str(tools), code]

    return [
        Client(f"node-{key}", client, "library", "OpenSSL", [command(code.format(**fill))], command(f"console.log({version})"), r"(\d+\.\d+\.\d+)", needs="node")
        for key, (client, version, code) in NODE.items()
    ]


def go_clients(places):
    if not shutil.which("go"):
        return []
    source = places.work / "client.go"
    source.write_text(GO.replace("@CA@", str(places.ca)).replace("@URL@", places.url))
    program = places.work / "go-client"
    build = ["sh", "-c", f"test -x {program} || go build -o {program} {source}"]
    return [
        Client("go-net-http", "Go-http-client", "library", "Go", [build, [str(program)]], ["go", "version"], r"go(\d+\.\d+(?:\.\d+)?)", needs="go"),
        Client("go-net-http-http1", "Go-http-client", "library", "Go", [build, [str(program), "1"]], ["go", "version"], r"go(\d+\.\d+(?:\.\d+)?)", needs="go"),
    ]


def java_clients(places):
    if not shutil.which("javac"):
        return []
    store = places.work / "trust.p12"
    trust = ["sh", "-c", f"test -f {store} || keytool -importcert -noprompt -alias site -file {places.ca} -keystore {store} -storetype PKCS12 -storepass changeit"]
    out = []
    for key, client, name, code in [("client", "Java HttpClient", "ByClient", JAVA_CLIENT), ("url", "Java", "ByUrl", JAVA_URL)]:
        file = places.work / f"{name}.java"
        file.write_text(code)
        run = ["java", f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit", str(file), places.url]
        out.append(Client(f"java-{key}", client, "library", "JSSE", [trust, run], ["java", "-version"], r"version \"([\d.]+)", needs="java"))
    return out


def rust_clients(places):
    """The program in tools/rust, built as the README says."""
    program = places.tools.resolve() / "rust" / "target" / "debug" / "rust-clients"
    if not program.exists():
        return []
    out = []
    for key, client, package, stack in [
        ("reqwest-rustls", "reqwest", "reqwest", "rustls"), ("reqwest-native", "reqwest", "reqwest", "OpenSSL"), ("ureq", "ureq", "ureq", "rustls"),
    ]:
        lock = places.tools.resolve() / "rust" / "Cargo.lock"
        version = ["grep", "-A1", f'^name = "{package}"', str(lock)]
        out.append(Client(f"rust-{key}", client, "library", stack, [[str(program), key, places.url, str(places.ca)]], version, r'version = "([\d.]+)"', needs=str(program)))
    return out


def java_libraries(places):
    """okhttp and Apache HttpClient from the jars in tools/java/lib, on the JDK's TLS (Android's is another)."""
    jars = places.tools.resolve() / "java" / "lib"
    if not jars.exists() or not shutil.which("javac"):
        return []
    store = places.work / "trust.p12"
    trust = ["sh", "-c", f"test -f {store} || keytool -importcert -noprompt -alias site -file {places.ca} -keystore {store} -storetype PKCS12 -storepass changeit"]
    out = []
    for key, client, jar, name, code in [("okhttp", "okhttp", "okhttp", "ByOkhttp", JAVA_OKHTTP), ("apache", "Apache-HttpClient", "httpclient5", "ByApache", JAVA_APACHE)]:
        file = places.work / f"{name}.java"
        file.write_text(code)
        run = ["java", "-cp", f"{jars}/*", f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit", str(file), places.url]
        out.append(Client(f"java-{key}", client, "library", "JSSE", [trust, run], ["sh", "-c", f"ls {jars}/{jar}-[0-9]*.jar"], r"-(\d[\d.]+)\.jar", needs="java"))
    return out


# Profile of curl_cffi -> family, version, operating system.
PROFILE = r"^(chrome|edge|safari|firefox|tor)(\d+)"


def impersonators(places):
    """Copies of browsers: right about TLS and HTTP/2 of the version that they copy, nothing more."""
    import json
    import re
    import subprocess

    python = str(places.impersonators)
    listing = "import curl_cffi, json; print(json.dumps([curl_cffi.__version__, sorted(p.value for p in curl_cffi.requests.BrowserType)]))"
    version, profiles = json.loads(subprocess.run([python, "-c", listing], capture_output=True, text=True, check=True).stdout)
    families = {"chrome": "Chrome", "edge": "Edge", "safari": "Safari", "firefox": "Firefox", "tor": "Tor Browser"}
    out = []
    for profile in profiles:
        found = re.match(PROFILE, profile)
        # safari15_3 is another name of safari153.
        if not found or re.match(r"safari\d+_\d", profile):
            continue
        family, digits = found.groups()
        is_ios = profile.endswith("_ios")
        if family == "safari":
            # safari153 is 15.3, safari2601 is 26.0.1.
            number = ".".join([digits[:2], *digits[2:]])
        elif family == "tor":
            number = ".".join([digits[:-1], digits[-1]])
        else:
            number = digits
        system = "iOS" if is_ios else "Android" if "android" in profile else ""
        code = f"from curl_cffi import requests as r\ns=r.Session(impersonate='{profile}', verify=False)\ns.get('{places.url}'); s.get('{places.url}')"
        out.append(
            Client(
                f"curl-cffi-{profile.replace('_', '-')}", families[family], "browser",
                {"firefox": "NSS", "tor": "NSS", "safari": "Secure Transport"}.get(family, "BoringSSL"),
                [[python, "-c", code]], version=number, os=system, basis="impersonation", source=f"curl_cffi {version}", needs=python,
            )
        )
    return out
