//! The truth card: who was what, for the page that shows afterwards where a ranking was wrong.
//!
//! It is written to a file that nothing but the dashboard and the summary of `ja4 up` is told of.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::cast::{Cast, NAT};
use super::chromium::Browser;
use super::programs::Programs;
use super::tools::Kind;

/// The whole card.
#[derive(Debug, Serialize)]
struct Card {
    /// When it was written, UTC, RFC 3339.
    written_at: String,
    seed: u64,
    clients: Vec<Client>,
}

/// One client; two behind a NAT with the same User-Agent are two lines that nobody can tell apart.
#[derive(Debug, Serialize)]
struct Client {
    /// Unique in the card, such as `person 7`.
    name: String,
    /// `person`, `app`, `machine` or `bot`.
    role: &'static str,
    /// What sort, such as `scanner`.
    kind: &'static str,
    /// In words.
    what: &'static str,
    src_ip: Ipv4Addr,
    user_agent: String,
    host: String,
    since: String,
    behind_nat: bool,
    /// What gives a bot away: `identity`, `rate`, `timing`, `paths`, `probes`, `login`, `post`, `status`, `assets`.
    causes: &'static [&'static str],
}

/// Writes the card as JSON, whole or not at all; a failure is said and nothing else.
pub(super) fn write(shared: &Shared, cast: &Cast, programs: &Programs, browser: Option<&Browser>) {
    let Some(path) = &shared.config.truth_file else {
        return;
    };
    let card = card(shared, cast, programs, browser);
    let partial = path.with_extension("partial");
    let written = serde_json::to_vec_pretty(&card)
        .map_err(std::io::Error::other)
        .and_then(|text| std::fs::write(&partial, text))
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(error) = written {
        tracing::error!("cannot write the truth to {}: {error}", path.display());
    }
}

fn card(shared: &Shared, cast: &Cast, programs: &Programs, browser: Option<&Browser>) -> Card {
    let now = OffsetDateTime::from(SystemTime::now())
        .format(&Rfc3339)
        .unwrap_or_default();
    let client = |name: String, role, (kind, what, causes), src_ip: Ipv4Addr, user_agent: String| Client {
        name,
        role,
        kind,
        what,
        src_ip,
        user_agent,
        host: shared.config.server_name.clone(),
        since: now.clone(),
        behind_nat: src_ip == NAT,
        causes,
    };
    let mut clients = Vec::new();
    if let Some(browser) = browser {
        for person in &cast.people {
            let truth = ("browser", "a person with Chromium", [].as_slice());
            let name = format!("person {}", person.number);
            clients.push(client(name, "person", truth, person.address, browser.agent()));
        }
    }
    for app in &cast.apps {
        let truth = ("app", "an application of the site, rustls", [].as_slice());
        let agent = super::apps::agent(app.number).to_owned();
        clients.push(client(
            format!("app {}", app.number),
            "app",
            truth,
            app.address,
            agent,
        ));
    }
    for (role, tools) in [("machine", &cast.services), ("bot", &cast.bots)] {
        for tool in tools.iter().filter(|tool| programs.has(tool.kind.program())) {
            let agent = match (tool.kind, browser) {
                (Kind::BrowserBot, Some(browser)) => browser.agent(),
                (Kind::BrowserBot, None) => continue,
                (kind, _) => kind.agent().to_owned(),
            };
            let name = format!("{role} {}", tool.number % 1000);
            clients.push(client(name, role, tool.kind.truth(), tool.address, agent));
        }
    }
    Card {
        written_at: now.clone(),
        seed: shared.config.seed.unwrap_or(1),
        clients,
    }
}
