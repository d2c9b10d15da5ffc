//! Reads the claims of a User-Agent: family, version, engine, operating system, and what kind of client it says it is.
//!
//! Rules come from uap-core, patterns of crawlers from crawler-user-agents. Input may be hostile: only the first
//! [`MAX_AGENT_BYTES`] are looked at, the engine is linear in them, and the memory of past answers is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use ua_parser::{os, user_agent};

use crate::crawlers::{Crawler, Crawlers};
use crate::table::{LoadError, read};

const RULES: &str = include_str!("../data/user_agents.json");
const PATTERNS: &str = include_str!("../data/crawler_patterns.tsv");

/// Longest User-Agent that is read, bytes; real ones have under 500.
pub(crate) const MAX_AGENT_BYTES: usize = 1024;
/// Most User-Agents whose claims are remembered, in two halves: the older half is forgotten when the younger is full, so
/// that a flood of values costs parsing and at most 8 MiB. A busy site sees a few thousand.
pub(crate) const MAX_REMEMBERED: usize = 8_192;
/// Longest family, in characters, that is taken from an unknown User-Agent.
const MAX_FAMILY_CHARS: usize = 40;

/// What makes a browser's TLS, HTTP and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Chrome, Edge, Opera, Brave, Samsung Internet, Android's `WebView` and all others built on Chromium.
    Chromium,
    /// Firefox and Tor Browser.
    Gecko,
    /// Safari, and every browser on iOS.
    WebKit,
}

impl Engine {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chromium => "Chromium",
            Self::Gecko => "Gecko",
            Self::WebKit => "WebKit",
        }
    }
}

/// What a client says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Kind {
    /// A browser that a person uses.
    Browser,
    /// A crawler, monitor or preview that says so.
    Crawler,
    /// A library, tool or automated browser that says so.
    Library,
    /// Anything else with a name, such as a mobile application.
    App,
    /// Nothing.
    #[default]
    None,
}

impl Kind {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Crawler => "crawler",
            Self::Library => "library",
            Self::App => "app",
            Self::None => "none",
        }
    }
}

/// What a User-Agent claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Family, such as `Chrome`, `Mobile Safari`, `Googlebot` or `curl`; empty without.
    pub family: String,
    /// Version, as far as it is given; empty without.
    pub version: String,
    /// Kind of client.
    pub kind: Kind,
    /// Operating system, such as `Windows`, `Mac OS X`, `iOS`, `Android`, `Linux`; empty without.
    pub os: String,
    /// Engine of a browser (or of a program that says it drives one).
    pub engine: Option<Engine>,
    /// Version of the engine times 100: 14200 for Chromium 142, 1804 for `WebKit` of Safari 18.4.
    pub engine_version: Option<u32>,
    /// True for an application that embeds the engine (Android's `WebView`, Electron, in-app browsers): it may add, leave
    /// out and reorder headers.
    pub embeds_engine: bool,
}

impl Claims {
    /// Family and version, or `no User-Agent`.
    pub fn describe(&self) -> String {
        match (self.family.as_str(), self.version.as_str()) {
            ("", _) => "no User-Agent".to_owned(),
            (family, "") => family.to_owned(),
            (family, version) => format!("{family} {version}"),
        }
    }
}

/// Claims, and the crawler that they name.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub claims: Claims,
    pub crawler: Option<Crawler>,
}

#[derive(Deserialize)]
struct Rules {
    user_agent: Vec<Vec<Option<String>>>,
    os: Vec<Vec<Option<String>>>,
}

/// Compiled rules with a memory.
pub(crate) struct Agents {
    families: user_agent::Extractor<'static>,
    systems: os::Extractor<'static>,
    /// Yields, as family, the place of the pattern.
    crawlers: user_agent::Extractor<'static>,
    tags: Vec<&'static str>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    young: HashMap<Box<str>, Arc<Known>>,
    old: HashMap<Box<str>, Arc<Known>>,
}

impl Memory {
    fn get(&mut self, agent: &str) -> Option<Arc<Known>> {
        if let Some(known) = self.young.get(agent) {
            return Some(Arc::clone(known));
        }
        let known = self.old.remove(agent)?;
        self.put(agent, Arc::clone(&known));
        Some(known)
    }

    fn put(&mut self, agent: &str, known: Arc<Known>) {
        if self.young.len() >= MAX_REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(agent.into(), known);
    }
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agents")
            .field("n_patterns", &self.tags.len())
            .field("n_remembered", &self.n_remembered())
            .finish_non_exhaustive()
    }
}

impl Agents {
    pub(crate) fn load() -> Result<Self, LoadError> {
        let rules: Rules = serde_json::from_str(RULES)?;
        let compile = |error: ua_parser::Error| LoadError::Compile(error.to_string());
        let mut families = user_agent::Builder::new();
        for rule in rules.user_agent {
            families = families.push(family_rule(rule)?).map_err(compile)?;
        }
        let mut systems = os::Builder::new();
        for rule in rules.os {
            systems = systems
                .push(os_rule(rule)?)
                .map_err(|error| LoadError::Compile(format!("{error:?}")))?;
        }
        let mut crawlers = user_agent::Builder::new();
        let mut tags = Vec::new();
        for [pattern, pattern_tags, _] in read("crawler_patterns.tsv", PATTERNS, ["pattern", "tags", "url"])?
        {
            let rule = user_agent::Parser {
                regex: pattern.into(),
                family_replacement: Some(tags.len().to_string().into()),
                ..user_agent::Parser::default()
            };
            crawlers = crawlers.push(rule).map_err(compile)?;
            tags.push(pattern_tags);
        }
        let build = |error| LoadError::Compile(format!("{error:?}"));
        Ok(Self {
            families: families.build().map_err(build)?,
            systems: systems.build().map_err(build)?,
            crawlers: crawlers.build().map_err(build)?,
            tags,
            memory: Mutex::default(),
        })
    }

    /// Claims of a User-Agent, from memory where it was seen lately.
    pub(crate) fn classify(&self, agent: &str, crawlers: &Crawlers) -> Arc<Known> {
        let agent = cut(agent.trim());
        if let Some(known) = self.memory().get(agent) {
            return known;
        }
        let known = Arc::new(self.read(agent, crawlers));
        self.memory().put(agent, Arc::clone(&known));
        known
    }

    pub(crate) fn n_remembered(&self) -> usize {
        let memory = self.memory();
        memory.young.len() + memory.old.len()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a User-Agent anew.
    pub(crate) fn read(&self, agent: &str, crawlers: &Crawlers) -> Known {
        let agent = cut(agent.trim());
        if agent.is_empty() {
            return Known::default();
        }
        let mut claims = Claims::default();
        if let Some(found) = self.families.extract(agent) {
            claims.family = found.family.into_owned();
            let parts = [found.major, found.minor, found.patch, found.patch_minor];
            let parts: Vec<&str> = parts.into_iter().map_while(|part| part).collect();
            claims.version = parts.join(".");
        }
        if let Some(found) = self.systems.extract(agent) {
            claims.os = found.os.into_owned();
        }
        (claims.engine, claims.engine_version) = engine_of(agent);
        claims.embeds_engine = embeds_engine(agent);
        let tags = self.crawler_tags(agent);
        let named = crawlers.named_in(&agent.to_ascii_lowercase());
        claims.kind = kind_of(agent, tags, named.is_some(), &claims);
        if let (Kind::Crawler, Some(crawler)) = (claims.kind, named) {
            crawler.name.clone_into(&mut claims.family);
        }
        if claims.family.is_empty() {
            claims.family = first_product(agent);
        }
        Known {
            claims,
            crawler: named.copied(),
        }
    }

    fn crawler_tags(&self, agent: &str) -> Option<&'static str> {
        let found = self.crawlers.extract(agent)?;
        let at: usize = found.family.parse().ok()?;
        self.tags.get(at).copied()
    }
}

fn no_expression() -> LoadError {
    LoadError::Compile("a rule has no expression".to_owned())
}

fn family_rule(rule: Vec<Option<String>>) -> Result<user_agent::Parser<'static>, LoadError> {
    let mut values = rule.into_iter().map(|value| value.map(Into::into));
    let mut next = || values.next().flatten();
    Ok(user_agent::Parser {
        regex: next().ok_or_else(no_expression)?,
        family_replacement: next(),
        v1_replacement: next(),
        v2_replacement: next(),
        v3_replacement: next(),
        v4_replacement: next(),
    })
}

fn os_rule(rule: Vec<Option<String>>) -> Result<os::Parser<'static>, LoadError> {
    let mut values = rule.into_iter().map(|value| value.map(Into::into));
    let mut next = || values.next().flatten();
    Ok(os::Parser {
        regex: next().ok_or_else(no_expression)?,
        os_replacement: next(),
        os_v1_replacement: next(),
        os_v2_replacement: next(),
        os_v3_replacement: next(),
        os_v4_replacement: next(),
    })
}

/// The first [`MAX_AGENT_BYTES`], at a border of characters.
fn cut(agent: &str) -> &str {
    let mut end = agent.len().min(MAX_AGENT_BYTES);
    while !agent.is_char_boundary(end) {
        end -= 1;
    }
    &agent[..end]
}

/// `major * 100 + minor` behind a name such as `Chrome/`.
fn version_behind(agent: &str, name: &str) -> Option<u32> {
    let rest = &agent[agent.find(name)? + name.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let mut parts = rest[..end].split('.');
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (major < 10_000).then(|| major * 100 + minor.min(99))
}

/// Engine and its version, by the words that browsers put into their User-Agents.
fn engine_of(agent: &str) -> (Option<Engine>, Option<u32>) {
    // iOS has one engine; its browsers call themselves Macintosh when asked for the desktop's page.
    const IOS: [&str; 6] = ["iPhone", "iPad", "iPod", "CriOS/", "FxiOS/", "EdgiOS/"];
    let is_ios = IOS.iter().any(|word| agent.contains(word));
    if is_ios && agent.contains("AppleWebKit/") {
        return (Some(Engine::WebKit), version_behind(agent, "Version/"));
    }
    // EdgeHTML and Trident are gone and in no catalogue.
    if agent.contains(" Edge/") || agent.contains("Trident/") || agent.contains("MSIE ") {
        return (None, None);
    }
    for name in ["HeadlessChrome/", "Chrome/", "Chromium/"] {
        if agent.contains("AppleWebKit/") && agent.contains(name) {
            let version = version_behind(agent, name).map(|version| version / 100 * 100);
            return (Some(Engine::Chromium), version);
        }
    }
    if agent.contains("Gecko/") && agent.contains("Firefox/") {
        let version = version_behind(agent, "Firefox/").map(|version| version / 100 * 100);
        return (Some(Engine::Gecko), version);
    }
    let is_safari = agent.contains("AppleWebKit/") && agent.contains("Safari/");
    if is_safari && agent.contains("Macintosh") {
        return (Some(Engine::WebKit), version_behind(agent, "Version/"));
    }
    (None, None)
}

/// Words of programs that embed an engine, with headers of their own.
fn embeds_engine(agent: &str) -> bool {
    const WORDS: [&str; 14] = [
        "; wv)",
        "Electron/",
        "FBAN/",
        "FBAV/",
        "Instagram",
        "MicroMessenger",
        "Line/",
        "Snapchat",
        "GSA/",
        "TikTok",
        "musical_ly",
        "Teams/",
        "Slack",
        "QtWebEngine/",
    ];
    let is_bare_webview =
        agent.contains("Mobile/") && agent.contains("AppleWebKit/") && !agent.contains("Safari/");
    is_bare_webview || WORDS.iter().any(|word| agent.contains(word))
}

/// Families of programs and libraries that are in no list of crawlers.
const LIBRARIES: [&str; 24] = [
    "curl",
    "Wget",
    "libcurl",
    "git",
    "ApacheBench",
    "Siege",
    "h2load",
    "hey",
    "aria2",
    "Axel",
    "wrk",
    "undici",
    "node",
    "got",
    "axios",
    "node-fetch",
    "PycURL",
    "PHP",
    "Ruby",
    "Java",
    "Java-http-client",
    "okhttp",
    "Apache-HttpClient",
    "Scrapy",
];

fn kind_of(agent: &str, tags: Option<&str>, is_named: bool, claims: &Claims) -> Kind {
    let has = |tag: &str| tags.is_some_and(|tags| tags.split(',').any(|found| found == tag));
    if has("http-library") || has("browser-automation") || agent.contains("HeadlessChrome") {
        return Kind::Library;
    }
    let product = first_product(agent);
    if LIBRARIES
        .iter()
        .any(|name| product.eq_ignore_ascii_case(name) || claims.family.eq_ignore_ascii_case(name))
    {
        return Kind::Library;
    }
    if tags.is_some() || is_named {
        return Kind::Crawler;
    }
    let starts_like_browser = ["Mozilla/", "Opera/", "Lynx/", "w3m/", "Links ", "ELinks/"]
        .iter()
        .any(|start| agent.starts_with(start));
    if claims.engine.is_some() || starts_like_browser {
        return Kind::Browser;
    }
    Kind::App
}

/// The name before the first `/`, space or `(`, in letters that are safe anywhere.
fn first_product(agent: &str) -> String {
    agent
        .split(['/', ' ', '(', ';'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(MAX_FAMILY_CHARS)
        .collect()
}
