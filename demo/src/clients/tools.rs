//! Services and bots: programs of the system, a run of some requests at a time over one connection each.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::cast::{Cast, ToolPart};
use super::programs::{Program, Programs};
use super::proxy::{Proxy, Way};
use super::{ClientsConfig, Rng, Shared, with_cid};

/// Longest run of a program: an API client takes ten looks of two seconds.
const RUN_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait before a service or bot begins.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(30);
/// Most output that is read of a run: `openssl` prints the pages themselves.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;

/// Prints the status of each answer; never opens a second connection. Waits before each request are seconds.
const PYTHON: &str = r#"
import http.client, json, socket, ssl, sys, time
j = json.loads(sys.argv[1])
ctx = ssl.create_default_context(); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
s = socket.create_connection((j["ip"], j["port"]), 10, (j["source"], 0))
c = http.client.HTTPSConnection(j["name"], j["port"]); c.auto_open = 0
c.sock = ctx.wrap_socket(s, server_hostname=j["name"])
for t, wait in zip(j["targets"], j["waits"]):
    time.sleep(wait)
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
const ask = i => { const body = j.form ? 'user=admin&password=guess' + i : '';
  const headers = {'User-Agent': j.agent, Accept: 'application/json'};
  if (j.form) Object.assign(headers, {'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': body.length});
  https.request({host: j.name, port: j.port, path: j.targets[i], method: j.form ? 'POST' : 'GET', agent, headers}, r => {
    r.resume(); r.on('end', () => { console.log(r.statusCode); next(i + 1); }); }).on('error', () => process.exit(1)).end(body); };
const next = i => { if (i === j.targets.length) process.exit(0); setTimeout(ask, 1000 * j.waits[i], i); };
socket.on('secureConnect', () => next(0));
";

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// curl, one request from a fixed port, then the port again.
    Health,
    /// openssl, pipelined requests.
    Monitor,
    /// gnutls-cli, one request.
    Uptime,
    /// wget, a page in a new connection.
    Saver,
    /// curl as it is, what somebody's script needs.
    Script,
    /// python, the feed and what is new in it.
    Feed,
    /// node, an application that reads the API.
    Api,
    /// python under its own name, articles in order.
    Scraper,
    /// python under a browser's name, articles in order.
    Spoofer,
    /// node, passwords.
    Guesser,
    /// curl, paths that other software has.
    Scanner,
    /// curl with HTTP/2, under a search engine's name.
    FakeCrawler,
    /// node, prices at an even pace.
    PricePoller,
    /// Chromium without pictures, in order; see `people`.
    BrowserBot,
}

/// One client: what it does, from where, how often.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    part: ToolPart,
    pause: Duration,
}

impl Kind {
    /// Benign machines, and whether the site's own people run them, from a network of theirs. But for the health check
    /// each is there in numbers, as out in the world.
    pub(crate) const SERVICES: [(Self, bool); 23] = [
        (Self::Health, true),
        (Self::Monitor, true),
        (Self::Uptime, true),
        (Self::Monitor, false),
        (Self::Monitor, false),
        (Self::Uptime, false),
        (Self::Uptime, false),
        (Self::Saver, false),
        (Self::Saver, false),
        (Self::Saver, false),
        (Self::Saver, false),
        (Self::Script, false),
        (Self::Script, false),
        (Self::Script, false),
        (Self::Script, false),
        (Self::Feed, false),
        (Self::Feed, false),
        (Self::Feed, false),
        (Self::Feed, false),
        (Self::Api, false),
        (Self::Api, false),
        (Self::Api, false),
        (Self::Api, false),
    ];
    /// Bots; the first is in every cast that has one.
    pub(crate) const BOTS: [Self; 7] = [
        Self::FakeCrawler,
        Self::Spoofer,
        Self::Scanner,
        Self::Guesser,
        Self::PricePoller,
        Self::BrowserBot,
        Self::Scraper,
    ];

    /// For the truth card: a name, and what gives it away.
    pub(crate) const fn truth(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Health => ("health_check", "curl asks /health at a fixed interval", &[]),
            Self::Monitor => ("monitoring", "openssl asks three pages at a fixed interval", &[]),
            Self::Uptime => ("uptime_probe", "gnutls-cli asks /health at a fixed interval", &[]),
            Self::Saver => ("page_saver", "wget saves an article now and then", &[]),
            Self::Script => ("script", "curl fetches what somebody's script needs", &[]),
            Self::Feed => ("feed_reader", "python reads the feed and what is new", &[]),
            Self::Api => ("api_client", "node reads the API as its owner asked", &[]),
            Self::Scraper => (
                "scraper",
                "python under its own name takes all articles in order",
                &["rate", "paths", "identity"],
            ),
            Self::Spoofer => (
                "spoofed_library",
                "python under Chrome's User-Agent takes all articles",
                &["identity"],
            ),
            Self::Guesser => (
                "password_guesser",
                "node posts passwords to /login",
                &["login", "status", "post"],
            ),
            Self::Scanner => (
                "scanner",
                "curl asks for admin pages, dot files and leftovers",
                &["probes", "status"],
            ),
            Self::FakeCrawler => (
                "fake_crawler",
                "curl under Googlebot's name from an address that is not Google's",
                &["identity"],
            ),
            Self::PricePoller => (
                "price_poller",
                "node asks for prices at an even pace",
                &["rate", "timing", "paths"],
            ),
            Self::BrowserBot => (
                "browser_bot",
                "Chromium, too even and too fast, without pictures and styles",
                &["rate", "timing", "assets"],
            ),
        }
    }

    /// None for what is no program run of ours.
    pub(crate) const fn program(self) -> Program {
        match self {
            Self::Health | Self::Script | Self::Scanner | Self::FakeCrawler => Program::Curl,
            Self::Saver => Program::Wget,
            Self::Monitor => Program::Openssl,
            Self::Uptime => Program::Gnutls,
            Self::Api | Self::PricePoller | Self::Guesser => Program::Node,
            Self::Scraper | Self::Spoofer | Self::Feed => Program::Python,
            Self::BrowserBot => Program::Chromium,
        }
    }

    fn targets(self, run: u32, rng: &mut Rng) -> Vec<String> {
        fn numbered(count: u32, target: impl FnMut(u32) -> String) -> Vec<String> {
            (0..count).map(target).collect()
        }
        match self {
            Self::Health | Self::Uptime => vec!["/health".to_owned()],
            Self::Monitor => vec!["/health".into(), "/api/items?page=0".into(), "/robots.txt".into()],
            Self::Saver => vec![format!("/articles/{}", rng.below(240))],
            Self::Script => {
                let n_items = rng.below(3);
                let items = numbered(n_items, |_| format!("/api/items/{}", rng.below(40)));
                [vec![format!("/api/items?page={}", rng.below(4))], items].concat()
            }
            Self::Feed => {
                let n_new = rng.below(4);
                let new = numbered(n_new, |_| format!("/articles/{}", rng.below(240)));
                [vec!["/feed.xml".to_owned()], new].concat()
            }
            Self::Api => {
                let n_items = 3 + rng.below(8);
                let items = numbered(n_items, |_| format!("/api/items/{}", rng.below(40)));
                [vec![format!("/api/items?page={}", rng.below(4))], items].concat()
            }
            Self::Scraper | Self::Spoofer => numbered(15, |n| format!("/articles/{}", (run * 15 + n) % 240)),
            Self::Guesser => numbered(8, |_| "/login".to_owned()),
            Self::Scanner => numbered(12, |n| {
                ODD_PATHS[(run.wrapping_mul(12) + n) as usize % ODD_PATHS.len()].to_owned()
            }),
            Self::FakeCrawler => numbered(10, |n| format!("/products/{}", (run * 10 + n) % 40)),
            Self::PricePoller => numbered(20, |n| format!("/api/items/{}", (run * 20 + n) % 40)),
            Self::BrowserBot => Vec::new(),
        }
    }

    /// Seconds before each request, where the program can wait.
    fn waits(self, count: usize, rng: &mut Rng) -> Vec<f64> {
        let mean = match self {
            Self::Api => 2.0,
            Self::Feed | Self::Spoofer => 0.6,
            Self::Scraper => 0.3,
            Self::PricePoller => return vec![0.5; count],
            Self::Guesser => 0.2,
            _ => 0.0,
        };
        (0..count)
            .map(|_| rng.around(Duration::from_secs_f64(mean)).as_secs_f64())
            .collect()
    }

    /// Of the time between two runs. Each service keeps an interval of its own.
    fn pause_factor(self, number: u32) -> f64 {
        let own = [1.0, 1.5, 0.8, 2.0, 1.2][number as usize % 5];
        match self {
            Self::Health => 0.5,
            Self::Saver | Self::Script | Self::Feed | Self::Api => 3.0 * own,
            Self::Monitor | Self::Uptime => own,
            // Prices are asked again at once.
            Self::PricePoller => 0.25,
            _ => 1.0,
        }
    }

    /// What it says of itself; the browser's own says more.
    pub(crate) const fn agent(self) -> &'static str {
        match self {
            Self::Health => "health-check/1.0",
            Self::Saver => "Wget/1.21.3",
            Self::Script => "curl/7.88.1",
            Self::Monitor | Self::Uptime => "monitor/2.1",
            Self::Feed => "feed-reader/1.4 (+https://reader.example/)",
            Self::Api => "shop-sync/4.2",
            Self::Scraper => "Python-urllib/3.11",
            Self::Spoofer => {
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
            }
            Self::Scanner => "Mozilla/5.0 zgrab/0.x",
            Self::FakeCrawler => "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Self::PricePoller => "node",
            Self::Guesser => "axios/1.7.9",
            Self::BrowserBot => "",
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

/// The services and bots of a cast, as far as their programs are here; the bot with a browser is no job.
pub(crate) fn jobs(cast: &Cast, config: &ClientsConfig, programs: &Programs) -> Vec<Job> {
    let services = cast.services.iter().map(|part| Job {
        part: part.clone(),
        pause: config
            .service_pause
            .0
            .mul_f64(part.kind.pause_factor(part.number)),
    });
    let bots = cast.bots.iter().map(|part| Job {
        part: part.clone(),
        pause: config.bot_pause.0.mul_f64(part.kind.pause_factor(part.number)),
    });
    services
        .chain(bots.filter(|bot| bot.part.kind != Kind::BrowserBot))
        .filter(|job| programs.has(job.part.kind.program()))
        .collect()
}

/// Before the first run: nobody begins at the start, and no kind begins before another.
pub(crate) fn first_wait(rng: &mut Rng) -> Duration {
    FIRST_WAIT_MAX.mul_f64(rng.share())
}

/// Runs a job until the end.
pub(crate) async fn repeat(job: Job, programs: Arc<Programs>, shared: Arc<Shared>, seed: u64) {
    let mut rng = Rng::new(seed, u64::from(job.part.number) | 1 << 40);
    let mut run = 0_u32;
    let mut pause = first_wait(&mut rng).min(job.pause.max(Duration::from_secs(4)));
    while !shared.pause(pause).await {
        once(&job, run, &programs, &shared, &mut rng).await;
        run = run.wrapping_add(1);
        pause = match job.part.kind {
            // Set to the second, as such things are.
            Kind::Health | Kind::Monitor | Kind::Uptime => job.pause,
            _ => rng.around(job.pause),
        };
    }
}

async fn once(job: &Job, run: u32, programs: &Programs, shared: &Arc<Shared>, rng: &mut Rng) {
    let kind = job.part.kind;
    let Some(command) = programs.command(kind.program()) else {
        return;
    };
    let cid = shared.next_cid();
    let targets: Vec<String> = kind
        .targets(run, rng)
        .iter()
        .map(|target| with_cid(target, &cid))
        .collect();
    let waits = kind.waits(targets.len(), rng);
    let pending: Vec<_> = targets.iter().map(|_| shared.requests.begin()).collect();
    let config = &shared.config;
    let way = match kind.program() {
        Program::Wget => Some(Way::Connect),
        Program::Gnutls => Some(Way::Relay),
        _ => None,
    };
    let proxy = match way {
        Some(way) => match Proxy::start(job.part.address, 0, way, shared).await {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                tracing::debug!("{kind:?} does not run: {error:#}");
                for pending in pending {
                    pending.fail("proxy");
                }
                return;
            }
        },
        None => None,
    };
    let through = proxy.as_ref().map_or(config.server, |proxy| proxy.address);
    let (command, input) = arguments(job, command, &targets, &waits, config, through);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(RUN_TIMEOUT, execute(command, input)) => outcome.unwrap_or(Err("tool_timeout")),
        () = shared.shutdown.requested() => Err("stopped"),
    };
    let (output, reason) = match outcome {
        Ok(output) => (output, "tool_failed"),
        Err(reason) => (String::new(), reason),
    };
    let n_answers = count_answers(kind.program(), &output);
    for (n, pending) in pending.into_iter().enumerate() {
        if n < n_answers {
            pending.pass();
        } else {
            pending.fail(reason);
        }
    }
}

/// Completes the command; the text goes to its standard input. `through` is the proxy of what needs one.
fn arguments(
    job: &Job,
    mut command: Command,
    targets: &[String],
    waits: &[f64],
    config: &ClientsConfig,
    through: SocketAddr,
) -> (Command, String) {
    let (name, ip, port) = (&config.server_name, config.server.ip(), config.server.port());
    let kind = job.part.kind;
    let (address, agent) = (job.part.address, kind.agent());
    let mut input = String::new();
    match kind.program() {
        Program::Curl => {
            command.args(["-q", "-s", "-k", "--noproxy", "*", "-m", "20", "--fail-early"]);
            command
                .args(["-A", agent, "-w", "%{http_code}\n", "--interface"])
                .arg(address.to_string());
            command.arg("--resolve").arg(format!("{name}:{port}:{ip}"));
            command.arg(if matches!(kind, Kind::FakeCrawler | Kind::Script) {
                "--http2"
            } else {
                "--http1.1"
            });
            if kind == Kind::Health {
                if config.health_port != 0 {
                    command.arg("--local-port").arg(config.health_port.to_string());
                }
                command.args(["-H", "Connection: close"]);
            }
            for target in targets {
                command
                    .args(["-o", "/dev/null"])
                    .arg(format!("https://{name}:{port}{target}"));
            }
        }
        Program::Wget => {
            command.args(["--no-config", "-nv", "-S", "--no-check-certificate", "-4"]);
            command
                .args(["-e", "use_proxy=yes", "-e", "no_proxy=", "-e"])
                .arg(format!("https_proxy=http://{through}"));
            command.args(["-U", agent]);
            command.args([
                "--tries=1",
                "-T",
                "10",
                "--max-redirect=0",
                "--no-http-keep-alive",
                "-O",
                "/dev/null",
            ]);
            for target in targets {
                command.arg(format!("https://{name}:{port}{target}"));
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
                .arg(through.port().to_string());
            command.arg(through.ip().to_string());
            input = requests(targets, name, port, agent);
        }
        Program::Chromium => {}
        Program::Node | Program::Python => {
            let job_text = serde_json::json!({
                "ip": ip, "port": port, "source": address, "name": name, "agent": agent,
                "targets": targets, "waits": waits, "form": kind == Kind::Guesser,
            });
            if kind.program() == Program::Node {
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
        Program::Chromium => 0,
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
