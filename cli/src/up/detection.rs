//! What the detector made of the clients, laid beside the demo's truth. Pure.
//!
//! Rows of the store and the truth card come in; a ranking, and where it was wrong, go out. Nothing here goes back to
//! the detector: it is stopped when this is read.

use std::collections::BTreeMap;

use anyhow::Context as _;
use ja4_reasons::{Place, Reason, sentence};
use serde::{Deserialize, Serialize};

/// Places beyond the number of bots that still count as found.
const SLACK: usize = 5;
/// Clients of the ranking that the summary lists.
const LISTED: usize = 40;
/// Reasons listed of each client.
const REASONS: usize = 6;

/// What the detector did in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Detection {
    pub(crate) cycles: u64,
    pub(crate) cycles_failed: u64,
    /// Clients that the last cycle scored and flagged.
    pub(crate) scored: u64,
    pub(crate) flagged: u64,
    /// Incidents opened in the run: what the alert budget counts.
    pub(crate) incidents: u64,
    /// Alerts of all cycles of the run; a client with an open incident has one in each cycle.
    pub(crate) alerts: u64,
    /// `learning`, `provisional` or `armed`.
    pub(crate) state: String,
    pub(crate) model_states: BTreeMap<String, String>,
    pub(crate) cycle_ms_max: u64,
    /// Of the last cycle; empty when it went well.
    pub(crate) error: String,
    /// By evidence, strongest first; the first forty.
    pub(crate) clients: Vec<Client>,
}

/// One client of the ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Client {
    /// From 1.
    pub(crate) rank: usize,
    pub(crate) src_ip: String,
    pub(crate) ja4: String,
    pub(crate) host: String,
    pub(crate) user_agents: Vec<String>,
    pub(crate) requests: u64,
    pub(crate) evidence_bits: f64,
    pub(crate) score: f64,
    /// `normal`, `flagged` or `alert`: the worst of its models.
    pub(crate) verdict: String,
    pub(crate) model: String,
    pub(crate) state: String,
    pub(crate) reasons: Vec<Why>,
}

/// One reason, as stored and as a sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Why {
    pub(crate) voice: String,
    pub(crate) feature: String,
    pub(crate) contribution: f64,
    pub(crate) sentence: String,
}

/// The truth laid beside the ranking.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// A bot counts as found within so many places: the number of bots and five.
    pub(crate) places: usize,
    pub(crate) bots: Vec<Bot>,
    pub(crate) bots_found: usize,
    /// People, apps and machines above the threshold, with their names.
    pub(crate) wronged: Vec<Wronged>,
    /// Of the wronged, people.
    pub(crate) people_wronged: usize,
    /// Where the ranking was wrong, one sentence each.
    pub(crate) errors: Vec<String>,
}

/// What became of a bot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bot {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) what: String,
    pub(crate) src_ip: String,
    /// Best place of its clients; null when none was scored.
    pub(crate) rank: Option<usize>,
    pub(crate) is_found: bool,
    pub(crate) verdict: String,
    pub(crate) evidence_bits: f64,
    /// What gives it away.
    pub(crate) causes: Vec<String>,
    /// Whether one of the listed reasons names such a cause.
    pub(crate) is_cause_named: bool,
    pub(crate) reasons: Vec<Why>,
}

/// Somebody above the threshold who is no bot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Wronged {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) src_ip: String,
    pub(crate) rank: usize,
    pub(crate) verdict: String,
    pub(crate) reasons: Vec<Why>,
}

/// A line of the truth card; other fields are for the page.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Truth {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) kind: String,
    pub(crate) what: String,
    pub(crate) src_ip: String,
    pub(crate) user_agent: String,
    #[serde(default)]
    pub(crate) causes: Vec<String>,
}

/// The card.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Card {
    pub(crate) clients: Vec<Truth>,
}

/// Reads the answers of `summary_cycles` and `summary_clients`; all clients, in the order of the ranking.
///
/// # Errors
/// When an answer is not what the queries give.
pub(crate) fn read(cycles: &[Vec<String>], rows: &[Vec<String>]) -> anyhow::Result<(Detection, Vec<Client>)> {
    let [cycle] = cycles else {
        anyhow::bail!("summary_cycles answered {} rows", cycles.len())
    };
    let [
        n,
        failed,
        incidents,
        alerts,
        scored,
        flagged,
        state,
        model_states,
        ms_max,
        error,
    ] = &cycle[..]
    else {
        anyhow::bail!("summary_cycles answered {} columns", cycle.len())
    };
    let number = |text: &String| -> anyhow::Result<u64> {
        text.parse()
            .with_context(|| format!("the store answered {text:?} where a number belongs"))
    };
    let clients = rows
        .iter()
        .zip(1..)
        .map(|(row, rank)| client(rank, row))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let detection = Detection {
        cycles: number(n)?,
        cycles_failed: number(failed)?,
        scored: number(scored)?,
        flagged: number(flagged)?,
        incidents: number(incidents)?,
        alerts: number(alerts)?,
        state: state.clone(),
        model_states: serde_json::from_str(model_states).context("model_states is no JSON")?,
        cycle_ms_max: number(ms_max)?,
        error: error.clone(),
        clients: clients.iter().take(LISTED).cloned().collect(),
    };
    Ok((detection, clients))
}

fn client(rank: usize, row: &[String]) -> anyhow::Result<Client> {
    let [
        src_ip,
        ja4,
        host,
        model,
        bits,
        score,
        verdict,
        state,
        requests,
        why,
        says,
    ] = row
    else {
        anyhow::bail!("summary_clients answered {} columns", row.len())
    };
    let real = |text: &String| -> anyhow::Result<f64> {
        text.parse()
            .with_context(|| format!("the store answered {text:?} where a number belongs"))
    };
    let place = Place::of_model(model, host);
    let stored = reasons(why)?;
    let reasons = stored.iter().take(REASONS).map(|reason| Why {
        voice: reason.voice.clone(),
        feature: reason.feature.clone(),
        contribution: f64::from(reason.contribution),
        sentence: sentence(reason, &place),
    });
    Ok(Client {
        rank,
        src_ip: src_ip.clone(),
        ja4: ja4.clone(),
        host: host.clone(),
        user_agents: serde_json::from_str(says).context("user agents are no JSON")?,
        requests: requests.parse().context("requests is no number")?,
        evidence_bits: real(bits)?,
        score: real(score)?,
        verdict: verdict.clone(),
        model: model.clone(),
        state: state.clone(),
        reasons: reasons.collect(),
    })
}

/// The array of named tuples as JSON; a number that is none is null there.
fn reasons(json: &str) -> anyhow::Result<Vec<Reason>> {
    let values: Vec<serde_json::Value> = serde_json::from_str(json).context("reasons are no JSON")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    #[expect(clippy::cast_possible_truncation, reason = "they were f32 in the store")]
    let narrow = |value: &serde_json::Value| number(value) as f32;
    let reason = |value: &serde_json::Value| Reason {
        voice: text(&value["voice"]),
        feature: text(&value["feature"]),
        value: number(&value["value"]),
        median: number(&value["median"]),
        percentile: narrow(&value["percentile"]),
        contribution: narrow(&value["contribution"]),
        declared: text(&value["declared"]),
        observed: text(&value["observed"]),
        source: text(&value["source"]),
    };
    Ok(values.iter().map(reason).collect())
}

/// Lays the truth beside the ranking. A client is whose address and User-Agent it has; a NAT's people are one client.
pub(crate) fn compare(clients: &[Client], cards: &[Card]) -> Outcome {
    let truths: Vec<&Truth> = cards.iter().flat_map(|card| &card.clients).collect();
    let is_of = |client: &Client, truth: &Truth| {
        client.src_ip == truth.src_ip && client.user_agents.contains(&truth.user_agent)
    };
    let n_bots = truths.iter().filter(|truth| truth.role == "bot").count();
    let places = n_bots + SLACK;
    let mut outcome = Outcome {
        places,
        ..Outcome::default()
    };
    for truth in truths.iter().filter(|truth| truth.role == "bot") {
        let best = clients.iter().find(|client| is_of(client, truth));
        let bot = bot(truth, best, places);
        if !bot.is_found {
            let rank = bot.rank.map_or_else(
                || "was not scored".to_owned(),
                |rank| format!("is at place {rank}"),
            );
            outcome.errors.push(format!(
                "{} ({}) {rank}, beyond the first {places}",
                bot.name, bot.kind
            ));
        } else if !bot.is_cause_named {
            outcome.errors.push(format!(
                "{} ({}) is at place {}, but no reason names its cause ({})",
                bot.name,
                bot.kind,
                bot.rank.unwrap_or(0),
                bot.causes.join(", ")
            ));
        }
        outcome.bots_found += usize::from(bot.is_found);
        outcome.bots.push(bot);
    }
    for client in clients.iter().filter(|client| client.verdict != "normal") {
        let who: Vec<&&Truth> = truths.iter().filter(|truth| is_of(client, truth)).collect();
        if who.iter().any(|truth| truth.role == "bot") {
            continue;
        }
        let names: Vec<&str> = who.iter().map(|truth| truth.name.as_str()).collect();
        let role = who
            .first()
            .map_or("nobody on the card", |truth| truth.role.as_str());
        let name = if names.is_empty() {
            "nobody on the card".to_owned()
        } else {
            names.join(", ")
        };
        outcome.errors.push(format!(
            "{name} at {} is {} at place {} and no bot: {}",
            client.src_ip,
            client.verdict,
            client.rank,
            client
                .reasons
                .first()
                .map_or("no reason", |why| why.sentence.as_str())
        ));
        outcome.people_wronged += usize::from(role == "person");
        outcome.wronged.push(Wronged {
            name,
            role: role.to_owned(),
            src_ip: client.src_ip.clone(),
            rank: client.rank,
            verdict: client.verdict.clone(),
            reasons: client.reasons.clone(),
        });
    }
    outcome
}

fn bot(truth: &Truth, best: Option<&Client>, places: usize) -> Bot {
    let reasons = best.map(|client| client.reasons.clone()).unwrap_or_default();
    let is_named = |why: &Why| truth.causes.iter().any(|cause| names(why, cause));
    Bot {
        name: truth.name.clone(),
        kind: truth.kind.clone(),
        what: truth.what.clone(),
        src_ip: truth.src_ip.clone(),
        rank: best.map(|client| client.rank),
        is_found: best.is_some_and(|client| client.rank <= places),
        verdict: best.map(|client| client.verdict.clone()).unwrap_or_default(),
        evidence_bits: best.map_or(0.0, |client| client.evidence_bits),
        causes: truth.causes.clone(),
        is_cause_named: reasons.iter().any(is_named),
        reasons,
    }
}

/// Whether a reason names a cause of the truth card.
fn names(why: &Why, cause: &str) -> bool {
    let feature = why.feature.as_str();
    if cause == "identity" {
        return why.voice == "consistency";
    }
    let features: &[&str] = match cause {
        "rate" => &[
            "requests",
            "requests_per_hour",
            "requests_per_minute",
            "max_per_minute",
            "bytes_total",
            "burst_ratio",
        ],
        "timing" => &[
            "gap_cv",
            "gap_lag1",
            "gap_p50_s",
            "gap_p95_s",
            "gap_fast_share",
            "burst_ratio",
        ],
        "paths" => &[
            "paths_distinct",
            "path_entropy",
            "path_novelty",
            "rare_paths",
            "rare_path_share",
            "transition_entropy",
            "api_ratio",
        ],
        "probes" => &[
            "admin_count",
            "dotfile_count",
            "suspicious_count",
            "login_count",
            "rare_paths",
            "rare_path_share",
        ],
        "login" => &["login_count", "login_ratio"],
        "post" => &["post_ratio", "post_without_get"],
        "status" => &[
            "ratio_4xx",
            "ratio_404",
            "ratio_401_403",
            "count_404",
            "count_401_403",
            "statuses_distinct",
        ],
        "assets" => &["static_ratio", "favicon_ratio"],
        _ => &[],
    };
    features.contains(&feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(address: &str, bits: &str, verdict: &str, voice: &str, feature: &str, agent: &str) -> Vec<String> {
        let why = format!(
            r#"[{{"voice":"{voice}","feature":"{feature}","value":40,"median":null,"percentile":99,"contribution":12.5,"declared":"","observed":"","source":""}}]"#
        );
        let says = format!("[{}]", serde_json::Value::from(agent));
        [
            address,
            "t13d",
            "demo.test",
            "all/1h",
            bits,
            "0.99",
            verdict,
            "armed",
            "40",
            &why,
            &says,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn truth(name: &str, role: &str, address: &str, agent: &str, causes: &[&str]) -> Truth {
        Truth {
            name: name.to_owned(),
            role: role.to_owned(),
            kind: "kind".to_owned(),
            what: String::new(),
            src_ip: address.to_owned(),
            user_agent: agent.to_owned(),
            causes: causes.iter().map(|cause| (*cause).to_owned()).collect(),
        }
    }

    fn cycles() -> Vec<Vec<String>> {
        vec![
            [
                "20",
                "0",
                "3",
                "9",
                "70",
                "2",
                "armed",
                r#"{"all/1h":"armed"}"#,
                "120",
                "",
            ]
            .map(str::to_owned)
            .to_vec(),
        ]
    }

    #[test]
    fn bots_are_found_by_address_and_agent_and_people_above_the_threshold_are_named() {
        let rows = vec![
            row("127.20.0.1", "30", "alert", "consistency", "user_agent", "fake"),
            row("127.20.0.1", "12", "flagged", "forest", "requests", "Chrome"),
            row("127.10.0.9", "1", "normal", "forest", "requests", "node"),
        ];
        let (detection, clients) = read(&cycles(), &rows).unwrap();
        assert_eq!(
            (
                detection.incidents,
                detection.alerts,
                detection.state.as_str(),
                detection.clients.len()
            ),
            (3, 9, "armed", 3)
        );
        let card = Card {
            clients: vec![
                truth("bot 0", "bot", "127.20.0.1", "fake", &["identity"]),
                truth("bot 1", "bot", "127.10.0.9", "node", &["timing"]),
                truth("bot 2", "bot", "127.10.0.8", "curl", &["probes"]),
                truth("person 3", "person", "127.20.0.1", "Chrome", &[]),
                truth("person 4", "person", "127.20.0.1", "Chrome", &[]),
            ],
        };
        let outcome = compare(&clients, &[card]);
        assert_eq!(
            (outcome.places, outcome.bots_found, outcome.people_wronged),
            (8, 2, 1)
        );
        let seen: Vec<_> = outcome
            .bots
            .iter()
            .map(|bot| (bot.rank, bot.is_cause_named))
            .collect();
        assert_eq!(seen, [(Some(1), true), (Some(3), false), (None, false)]);
        assert_eq!(outcome.wronged[0].name, "person 3, person 4");
        assert_eq!(outcome.errors.len(), 3, "{:#?}", outcome.errors);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_and_no_ranking() {
        assert!(read(&cycles(), &[vec!["x".to_owned()]]).is_err());
        assert!(read(&[], &[]).is_err());
    }
}
