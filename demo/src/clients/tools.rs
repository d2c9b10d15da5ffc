//! Services and bots: programs of the system, a run of some requests at a time over one connection each.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::programs::{Program, Programs};
use super::{ClientsConfig, DEFAULT_BOTS, Rng, Shared, with_cid};

/// Longest run of a program.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// Most output that is read of a run: `openssl` prints the pages themselves.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;
/// The health check's own port, below what the kernel gives out (32768 on Linux): the port is used again and again.
const HEALTH_PORT: u16 = 20_443;

/// Prints the status of each answer; never opens a second connection.
const PYTHON: &str = r#"
import http.client, json, socket, ssl, sys
j = json.loads(sys.argv[1])
ctx = ssl.create_default_context(); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
s = socket.create_connection((j["ip"], j["port"]), 10, (j["source"], 0))
c = http.client.HTTPSConnection(j["name"], j["port"]); c.auto_open = 0
c.sock = ctx.wrap_socket(s, server_hostname=j["name"])
for t in j["targets"]:
    if j["form"]: c.request("POST", t, "user=admin&password=guess", {"User-Agent": j["agent"], "Content-Type": "application/x-www-form-urlencoded"})
    else: c.request("GET", t, headers={"User-Agent": j["agent"], "Accept": "*/*"})
    r = c.getresponse(); r.read(); print(r.status, flush=True)
"#;
const NODE: &str = r"
const https = require('https'), tls = require('tls'), j = JSON.parse(process.argv[1]);
const socket = tls.connect({host: j.ip, port: j.port, localAddress: j.source, servername: j.name, rejectUnauthorized: false, ALPNProtocols: ['http/1.1']});
socket.on('error', () => process.exit(1));
const agent = new https.Agent({keepAlive: true, maxSockets: 1}); let used = false;
agent.createConnection = () => { if (used) process.exit(1); used = true; return socket; };
const next = i => { if (i === j.targets.length) process.exit(0);
  https.get({host: j.name, port: j.port, path: j.targets[i], agent, headers: {'User-Agent': j.agent, Accept: 'application/json'}}, r => {
    r.resume(); r.on('end', () => { console.log(r.statusCode); setImmediate(next, i + 1); }); }).on('error', () => process.exit(1)); };
socket.on('secureConnect', () => next(0));
";

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// curl, one request from a fixed port, then the port again.
    Health,
    /// wget, a page in a new connection.
    Feed,
    /// openssl, pipelined requests.
    Monitor,
    /// gnutls-cli, one request.
    Uptime,
    /// node, an application that reads the API.
    App,
    /// python, all pages in order.
    Scraper,
    /// python, passwords.
    Stuffer,
    /// curl, paths that other software has.
    Scanner,
    /// curl with HTTP/2, under a search engine's name.
    FakeCrawler,
    /// node, the API as fast as it goes.
    ApiHammer,
    /// openssl, pipelined searches.
    Pipeliner,
}

/// One client: what it does, from where, how often.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    kind: Kind,
    number: u32,
    address: Ipv4Addr,
    pause: Duration,
}

impl Kind {
    const SERVICES: [(Self, u64); 5] = [
        (Self::Health, 3),
        (Self::Feed, 4),
        (Self::Monitor, 5),
        (Self::Uptime, 6),
        (Self::App, 5),
    ];
    const BOTS: [Self; 6] = [
        Self::Scraper,
        Self::Stuffer,
        Self::Scanner,
        Self::FakeCrawler,
        Self::ApiHammer,
        Self::Pipeliner,
    ];

    const fn program(self) -> Program {
        match self {
            Self::Health | Self::Scanner | Self::FakeCrawler => Program::Curl,
            Self::Feed => Program::Wget,
            Self::Monitor | Self::Pipeliner => Program::Openssl,
            Self::Uptime => Program::Gnutls,
            Self::App | Self::ApiHammer => Program::Node,
            Self::Scraper | Self::Stuffer => Program::Python,
        }
    }

    fn targets(self, run: u32, rng: &mut Rng) -> Vec<String> {
        let numbered = |count: u32, target: &dyn Fn(u32) -> String| (0..count).map(target).collect();
        match self {
            Self::Health | Self::Uptime => vec!["/health".to_owned()],
            Self::Feed => vec![format!("/articles/{}", rng.below(240))],
            Self::Monitor => vec!["/health".into(), "/api/items?page=0".into(), "/robots.txt".into()],
            Self::App => numbered(4, &|n| format!("/api/items?page={n}")),
            Self::Scraper => numbered(20, &|n| format!("/articles/{}", (run * 20 + n) % 240)),
            Self::Stuffer => numbered(8, &|_| "/login".to_owned()),
            Self::Scanner => numbered(12, &|n| {
                ODD_PATHS[(run.wrapping_mul(12) + n) as usize % ODD_PATHS.len()].to_owned()
            }),
            Self::FakeCrawler => numbered(10, &|n| format!("/products/{}", (run * 10 + n) % 40)),
            Self::ApiHammer => numbered(25, &|n| format!("/api/items/{}", (run + n) % 45)),
            Self::Pipeliner => numbered(10, &|n| format!("/search?q=deal{}", run * 10 + n)),
        }
    }

    const fn agent(self) -> &'static str {
        match self {
            Self::Health => "health-check/1.0",
            Self::Feed => "Wget/1.21",
            Self::Monitor | Self::Uptime => "monitor/2.1",
            Self::App => "shop-app/4.2",
            Self::Scraper | Self::Stuffer => {
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0.0.0 Safari/537.36"
            }
            Self::Scanner => "Mozilla/5.0 zgrab/0.x",
            Self::FakeCrawler => "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Self::ApiHammer => "node",
            Self::Pipeliner => "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
        }
    }
}

const ODD_PATHS: [&str; 16] = [
    "/.env",
    "/wp-login.php",
    "/admin",
    "/.git/config",
    "/phpmyadmin/",
    "/server-status",
    "/backup.zip",
    "/cgi-bin/test",
    "/actuator/env",
    "/api/v1/users",
    "/xmlrpc.php",
    "/config.json",
    "/shell?cmd=id",
    "/solr/admin",
    "/old/index.php",
    "/robots.txt",
];

/// The services and bots of a configuration, as far as their programs are here.
pub(crate) fn jobs(config: &ClientsConfig, programs: &Programs) -> Vec<Job> {
    let services = (0_u8..).zip(Kind::SERVICES).map(|(n, (kind, seconds))| Job {
        kind,
        number: u32::from(n),
        address: Ipv4Addr::new(127, 30, 0, n + 1),
        pause: Duration::from_secs(seconds),
    });
    let bots = (0..config.bots.unwrap_or(DEFAULT_BOTS)).zip(Kind::BOTS.into_iter().cycle());
    let bots = bots.map(|(n, kind)| {
        let [.., high, low] = n.to_be_bytes();
        Job {
            kind,
            number: 1000 + n,
            address: Ipv4Addr::new(127, 66, high, low.wrapping_add(1)),
            pause: config.bot_pause.0,
        }
    });
    let n_services = if config.services { Kind::SERVICES.len() } else { 0 };
    services
        .take(n_services)
        .chain(bots)
        .filter(|job| programs.has(job.kind.program()))
        .collect()
}

/// Runs a job until the end.
pub(crate) async fn repeat(job: Job, programs: Arc<Programs>, shared: Arc<Shared>, seed: u64) {
    let mut rng = Rng::new(seed, u64::from(job.number) | 1 << 40);
    let mut run = 0_u32;
    // Not all at once.
    let mut pause = rng.around(job.pause).mul_f64(0.5);
    while !shared.pause(pause).await {
        once(job, run, &programs, &shared, &mut rng).await;
        run = run.wrapping_add(1);
        pause = rng.around(job.pause);
    }
}

async fn once(job: Job, run: u32, programs: &Programs, shared: &Shared, rng: &mut Rng) {
    let Some(command) = programs.command(job.kind.program()) else {
        return;
    };
    let cid = shared.next_cid();
    let targets: Vec<String> = job
        .kind
        .targets(run, rng)
        .iter()
        .map(|target| with_cid(target, &cid))
        .collect();
    let pending: Vec<_> = targets.iter().map(|_| shared.requests.begin()).collect();
    let (command, input) = arguments(job, command, &targets, &shared.config);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(RUN_TIMEOUT, execute(command, input)) => outcome.unwrap_or(Err("tool_timeout")),
        () = shared.shutdown.requested() => Err("stopped"),
    };
    let (output, reason) = match outcome {
        Ok(output) => (output, "tool_failed"),
        Err(reason) => (String::new(), reason),
    };
    let n_answers = count_answers(job.kind.program(), &output);
    for (n, pending) in pending.into_iter().enumerate() {
        if n < n_answers {
            pending.pass();
        } else {
            pending.fail(reason);
        }
    }
}

/// Completes the command; the text goes to its standard input.
fn arguments(
    job: Job,
    mut command: Command,
    targets: &[String],
    config: &ClientsConfig,
) -> (Command, String) {
    let (name, ip, port) = (&config.server_name, config.server.ip(), config.server.port());
    let (address, agent) = (job.address, job.kind.agent());
    let mut input = String::new();
    match job.kind.program() {
        Program::Curl => {
            command.args(["-q", "-s", "-k", "--noproxy", "*", "-m", "20", "--fail-early"]);
            command
                .args(["-A", agent, "-w", "%{http_code}\n", "--interface"])
                .arg(address.to_string());
            command.arg("--resolve").arg(format!("{name}:{port}:{ip}"));
            command.arg(if job.kind == Kind::FakeCrawler {
                "--http2"
            } else {
                "--http1.1"
            });
            if job.kind == Kind::Health {
                command.arg("--local-port").arg(HEALTH_PORT.to_string());
                command.args(["-H", "Connection: close"]);
            }
            for target in targets {
                command
                    .args(["-o", "/dev/null"])
                    .arg(format!("https://{name}:{port}{target}"));
            }
        }
        Program::Wget => {
            command.args([
                "--no-config",
                "-nv",
                "-S",
                "--no-check-certificate",
                "--no-proxy",
                "-4",
            ]);
            command.args([
                "--tries=1",
                "-T",
                "10",
                "--max-redirect=0",
                "--no-http-keep-alive",
                "-O",
                "/dev/null",
            ]);
            command.arg(format!("--bind-address={address}"));
            for target in targets {
                command.arg(format!("https://localhost:{port}{target}"));
            }
        }
        Program::Openssl => {
            command
                .args(["s_client", "-quiet", "-ign_eof", "-connect"])
                .arg(config.server.to_string());
            command.arg("-bind").arg(format!("{address}:0"));
            command.arg("-servername").arg(name);
            input = requests(targets, name, port, agent);
        }
        Program::Gnutls => {
            command.args(["--no-ca-verification", "--logfile=/dev/null"]);
            command
                .arg(format!("--sni-hostname={name}"))
                .arg("-p")
                .arg(port.to_string());
            command.arg(ip.to_string());
            input = requests(targets, name, port, agent);
        }
        Program::Node | Program::Python => {
            let job_text = serde_json::json!({
                "ip": ip, "port": port, "source": address, "name": name, "agent": agent,
                "targets": targets, "form": job.kind == Kind::Stuffer,
            });
            if job.kind.program() == Program::Node {
                command.args(["-e", NODE]).arg(job_text.to_string());
            } else {
                command.args(["-I", "-c", PYTHON]).arg(job_text.to_string());
            }
        }
    }
    (command, input)
}

/// Pipelined; the last one closes the connection.
fn requests(targets: &[String], name: &str, port: u16, agent: &str) -> String {
    let mut text = String::new();
    for (n, target) in targets.iter().enumerate() {
        write!(
            text,
            "GET {target} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: {agent}\r\n"
        )
        .expect("writing to a String does not fail");
        if n + 1 == targets.len() {
            text += "Connection: close\r\n";
        }
        text += "\r\n";
    }
    text
}

/// What the program printed; of wget what it printed about itself.
async fn execute(mut command: Command, input: String) -> Result<String, &'static str> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|_| "tool_start")?;
    let mut stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let talk = async {
        if let Some(stdin) = &mut stdin {
            if input.is_empty() {
                return true;
            }
            return stdin.write_all(input.as_bytes()).await.is_ok() && stdin.flush().await.is_ok();
        }
        false
    };
    let listen = async {
        match stdout {
            Some(stdout) => stdout
                .take(MAX_OUTPUT_BYTES)
                .read_to_end(&mut output)
                .await
                .is_ok(),
            None => false,
        }
    };
    let listen_errors = async {
        match stderr {
            Some(stderr) => stderr
                .take(MAX_OUTPUT_BYTES)
                .read_to_end(&mut errors)
                .await
                .is_ok(),
            None => false,
        }
    };
    let (_said, heard, _heard) = tokio::join!(talk, listen, listen_errors);
    // Open until now: gnutls-cli ends with its input.
    drop(stdin);
    child.wait().await.map_err(|_| "tool_wait")?;
    if !heard {
        return Err("tool_output");
    }
    output.extend(errors);
    Ok(String::from_utf8_lossy(&output).into_owned())
}

fn count_answers(program: Program, output: &str) -> usize {
    match program {
        Program::Curl | Program::Node | Program::Python => output
            .lines()
            .filter(|line| line.len() == 3 && *line != "000" && line.bytes().all(|b| b.is_ascii_digit()))
            .count(),
        Program::Wget | Program::Openssl | Program::Gnutls => output.matches("HTTP/1.1 ").count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_not_failures() {
        assert_eq!(count_answers(Program::Curl, "200\n404\n000\ncurl: (7)\n"), 2);
        assert_eq!(
            count_answers(Program::Openssl, "HTTP/1.1 200 OK\r\n\r\nxHTTP/1.1 404 Not\r\n"),
            2
        );
    }

    #[test]
    fn pipelined_requests_close_after_the_last() {
        let text = requests(&["/a".to_owned(), "/b".to_owned()], "h", 1, "x");
        assert_eq!(text.matches("GET ").count(), 2);
        assert!(text.ends_with("Connection: close\r\n\r\n"));
        assert_eq!(text.matches("Connection").count(), 1);
    }
}
