//! From voices to a verdict: combines, explains, applies thresholds, labels and the budget. Pure.
//!
//! Evidence of a client is the sum of four parts in bits: forest, robust z, consistency, group. The sum of its reasons'
//! contributions is the same number. A client is flagged when its consistency evidence reaches the floor, in any state; or when
//! all its evidence reaches the threshold of an armed model; or when a label or a list says so.

use std::collections::BTreeMap;

use ja4_reasons::{REST, Reason, voice};

use crate::budget::{Asking, Key};
use crate::groups::{Group, Groups, Kind};
use crate::labels::{Effect, Verdict, Verdicts, Who};
use crate::model::{Explainer, Model, ModelError, Spoken};
use crate::population::{Population, address_text};
use crate::scaler::Row;
use crate::segments::{Segment, Window, model_name};
use crate::state::State;

/// Reasons of a row that are listed; the rest is summed up.
const LISTED: usize = 8;
/// Flagged members of a group from which on its alerts are one incident.
const GROUP_INCIDENT: usize = 3;

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Bits of consistency evidence that flag in any state.
    pub consistency_floor: f32,
    /// Least threshold of all evidence of an armed model, bits.
    pub evidence_floor: f32,
    /// Requests from which on the statistical voices speak.
    pub min_requests: u32,
    /// New incidents a day.
    pub budget: u32,
    /// Most rows of a window that are explained feature by feature, strongest first; flagged ones always are.
    pub explain_max: usize,
}

/// The threshold of a model: the floor, or what lets one client in as many pass as the budget allows a day.
pub fn threshold(policy: &Policy, clients_a_day: usize) -> f32 {
    let by_budget = (clients_a_day as f32 / policy.budget.max(1) as f32).log2();
    policy.evidence_floor.max(by_budget)
}

/// The models of one window.
#[derive(Debug, Default)]
pub struct Models<'a> {
    /// Saved models by segment, with their state.
    pub saved: BTreeMap<Segment, (&'a Model, State)>,
    /// Fitted on the spot while there is none: ranks, never flags.
    pub draft: Option<&'a Model>,
}

impl<'a> Models<'a> {
    /// The model for a segment: its own, that of all, or the draft.
    fn choose(&self, segment: Segment) -> Option<(&'a Model, State, Segment)> {
        self.saved
            .get(&segment)
            .map(|(model, state)| (*model, *state, segment))
            .or_else(|| {
                self.saved
                    .get(&Segment::All)
                    .map(|(model, state)| (*model, *state, Segment::All))
            })
            .or_else(|| self.draft.map(|model| (model, State::Learning, Segment::All)))
    }
}

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing.
    Normal = 0,
    /// Above a threshold.
    Flagged = 1,
    /// And let through by the budget.
    Alert = 2,
}

/// One voice's say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Say {
    /// Name of the voice.
    pub voice: &'static str,
    /// Raw score.
    pub raw: f32,
    /// p-value.
    pub p: f32,
    /// Part of the evidence, bits.
    pub bits: f32,
}

/// What was found about one client in one window.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// Its position in the population.
    pub client: usize,
    /// Model that spoke: `segment/window`.
    pub model: String,
    /// Its version; 0 without a saved one.
    pub version: u32,
    /// Its state.
    pub state: State,
    /// Whom the client was compared with.
    pub segment: Segment,
    /// What the statistical voices said; nothing of a client with too few requests.
    pub spoken: Option<Spoken>,
    /// Evidence of consistency, bits.
    pub consistency: f32,
    /// Evidence of its groups, bits.
    pub group_bits: f32,
    /// Evidence, bits.
    pub bits: f32,
    /// Threshold, bits.
    pub threshold: f32,
    /// Whether it is explained feature by feature, see [`Explanations`].
    pub is_explained: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// Flagged by a label only: raises no alert, the analyst knows.
    pub is_by_label: bool,
    /// Above a threshold, and held for harmless by a label, a list or a published address.
    pub is_suppressed: bool,
    /// Number of the group that it inherits from.
    pub group: Option<u32>,
}

impl Assessment {
    /// Voices that spoke, in their order.
    pub fn says(&self) -> impl Iterator<Item = Say> {
        let statistical = self.spoken.into_iter().flat_map(|said| {
            [(voice::FOREST, said.forest), (voice::ROBUST_Z, said.robust_z)]
                .map(|(voice, (raw, p, bits))| Say { voice, raw, p, bits })
        });
        let evident = [
            (voice::CONSISTENCY, self.consistency),
            (voice::GROUP, self.group_bits),
        ]
        .map(|(voice, bits)| Say {
            voice,
            raw: bits,
            p: (-bits).exp2(),
            bits,
        });
        statistical.chain(evident)
    }
}

/// What a window gave.
#[derive(Debug, Default)]
pub struct Assessed {
    /// In the order of the population.
    pub rows: Vec<Assessment>,
    /// Clients with too few requests for the statistical voices.
    pub n_few_requests: u64,
    /// By model: clients that the statistical voices scored, and those above the 95th percentile of the reference.
    pub agreement: BTreeMap<String, (u64, u64)>,
    /// By model: its threshold.
    pub thresholds: BTreeMap<String, f32>,
}

/// Assesses the clients in `chosen` (positions, upwards).
///
/// # Errors
/// If a model cannot score, which reading it checks.
pub fn assess(
    population: &Population,
    chosen: &[usize],
    models: &Models<'_>,
    groups: &Groups,
    verdicts: &Verdicts,
    policy: &Policy,
    clients_a_day: usize,
) -> Result<Assessed, ModelError> {
    let mut assessed = Assessed::default();
    let threshold = threshold(policy, clients_a_day);
    let mut by_segment = BTreeMap::<Segment, Vec<usize>>::new();
    for (number, &idx) in chosen.iter().enumerate() {
        by_segment
            .entry(population.clients[idx].segment)
            .or_default()
            .push(number);
    }
    let mut spoken: Vec<Option<Spoken>> = vec![None; chosen.len()];
    let mut model_of = BTreeMap::new();
    for (segment, members) in &by_segment {
        let Some((model, state, used)) = models.choose(*segment) else {
            continue;
        };
        model_of.insert(*segment, (model, state, used));
        let name = model_name(used, population.window);
        let ready: Vec<usize> = members
            .iter()
            .copied()
            .filter(|number| population.clients[chosen[*number]].requests >= policy.min_requests)
            .collect();
        assessed.n_few_requests += (members.len() - ready.len()) as u64;
        let usual = crate::stats::quantile(&model.evidence, 0.95);
        let agreement = assessed.agreement.entry(name.clone()).or_default();
        assessed.thresholds.insert(name, threshold);
        // In pieces: the voices of a whole day at once would be another few megabytes.
        for piece in ready.chunks(4096) {
            let rows: Vec<Row<'_>> = piece
                .iter()
                .map(|number| population.row(chosen[*number]))
                .collect();
            for (number, said) in piece.iter().zip(model.score(&rows)?) {
                agreement.0 += 1;
                agreement.1 += u64::from(said.bits() > usual);
                spoken[*number] = Some(said);
            }
        }
    }
    assessed.rows = chosen
        .iter()
        .zip(&spoken)
        .map(|(&idx, said)| {
            let chosen_model = model_of.get(&population.clients[idx].segment);
            row(
                population,
                idx,
                *said,
                chosen_model,
                groups,
                verdicts,
                policy,
                threshold,
            )
        })
        .collect();
    choose_explained(&mut assessed.rows, policy.explain_max);
    Ok(assessed)
}

type Chosen<'a> = (&'a Model, State, Segment);

#[expect(clippy::too_many_arguments, reason = "what a verdict needs")]
fn row(
    population: &Population,
    idx: usize,
    spoken: Option<Spoken>,
    model: Option<&Chosen<'_>>,
    groups: &Groups,
    verdicts: &Verdicts,
    policy: &Policy,
    threshold: f32,
) -> Assessment {
    let client = &population.clients[idx];
    let consistency = client.finding.as_ref().map_or(0.0, |finding| finding.bits);
    let (group_bits, _, group) = groups.inherited(idx);
    let statistical = spoken.map_or(0.0, |said| said.bits());
    let bits = statistical + consistency + group_bits;
    let (version, state, segment) = model
        .map_or((0, State::Learning, Segment::All), |(model, state, segment)| {
            (model.identity.version, *state, *segment)
        });
    let verdict = verdict_on(population, idx, verdicts);
    let is_above = consistency >= policy.consistency_floor
        || (state == State::Armed && spoken.is_some() && bits >= threshold);
    let is_verified = client
        .finding
        .as_ref()
        .is_some_and(|finding| finding.is_verified_crawler);
    let effect = verdict.map(|verdict| verdict.effect);
    let is_harmless = effect == Some(Effect::Suppress) || (is_verified && effect != Some(Effect::Flag));
    let is_by_label = effect == Some(Effect::Flag) && !is_above;
    let is_flagged = (is_above && !is_harmless) || effect == Some(Effect::Flag);
    Assessment {
        client: idx,
        model: model_name(segment, population.window),
        version,
        state,
        segment,
        spoken,
        consistency,
        group_bits,
        bits,
        threshold,
        is_explained: false,
        outcome: if is_flagged {
            Outcome::Flagged
        } else {
            Outcome::Normal
        },
        is_by_label,
        is_suppressed: is_above && is_harmless,
        group,
    }
}

fn verdict_on<'v>(population: &Population, idx: usize, verdicts: &'v Verdicts) -> Option<&'v Verdict> {
    let client = &population.clients[idx];
    let texts = &population.texts;
    verdicts.of(&Who {
        src_ip: client.src_ip,
        ja4: texts.text(client.ja4),
        host: texts.text(client.host),
        user_agent: texts.text(client.user_agent),
    })
}

/// The strongest, and the flagged.
fn choose_explained(rows: &mut [Assessment], explain_max: usize) {
    if rows.len() <= explain_max {
        for row in rows {
            row.is_explained = true;
        }
        return;
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| rows[b].bits.total_cmp(&rows[a].bits).then(a.cmp(&b)));
    for (place, number) in order.into_iter().enumerate() {
        rows[number].is_explained = place < explain_max || rows[number].outcome != Outcome::Normal;
    }
}

/// Says why, one client at a time: the reasons of 50 000 at once would take more memory than the clients themselves.
#[derive(Debug)]
pub struct Explanations<'a> {
    population: &'a Population,
    groups: &'a Groups,
    verdicts: &'a Verdicts,
    explainers: BTreeMap<Segment, Explainer<'a>>,
}

impl<'a> Explanations<'a> {
    /// For what [`assess`] made of the same arguments.
    pub fn new(
        population: &'a Population,
        models: &Models<'a>,
        groups: &'a Groups,
        verdicts: &'a Verdicts,
    ) -> Self {
        let explainers = Segment::EVERY
            .into_iter()
            .filter_map(|segment| Some((segment, models.choose(segment)?.0.explainer())))
            .collect();
        Self {
            population,
            groups,
            verdicts,
            explainers,
        }
    }

    /// Reasons whose contributions add up to the evidence, strongest first; what a label or a list says comes last.
    pub fn reasons(&mut self, row: &Assessment) -> Vec<Reason> {
        let client = &self.population.clients[row.client];
        let mut reasons = Vec::new();
        if row.is_explained {
            if let (Some(said), Some(explainer)) = (&row.spoken, self.explainers.get_mut(&client.segment)) {
                reasons = explainer.reasons(&self.population.row(row.client), said);
            }
            reasons.extend(client.finding.iter().flat_map(|finding| finding.reasons()));
            reasons.extend(self.groups.inherited(row.client).1);
        }
        let mut reasons = listed(reasons, row.says());
        let verdict = verdict_on(self.population, row.client, self.verdicts);
        reasons.extend(verdict.map(Verdict::reason));
        reasons
    }
}

/// The strongest reasons, and for each voice one more that makes its sum right.
fn listed(mut reasons: Vec<Reason>, says: impl Iterator<Item = Say>) -> Vec<Reason> {
    reasons.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
    reasons.truncate(LISTED);
    for say in says {
        let sum: f32 = reasons
            .iter()
            .filter(|reason| reason.voice == say.voice)
            .map(|reason| reason.contribution)
            .sum();
        let rest = say.bits - sum;
        if rest > 1e-4 {
            match reasons
                .iter_mut()
                .find(|reason| reason.voice == say.voice && reason.feature == REST)
            {
                Some(reason) => reason.contribution += rest,
                None => reasons.push(Reason::of_feature(say.voice, REST, rest)),
            }
        }
    }
    reasons
}

/// The name of a client as the key of its incident.
pub fn client_key(population: &Population, idx: usize) -> Key {
    let client = &population.clients[idx];
    Key {
        kind: "client".to_owned(),
        value: format!(
            "{} {} {}",
            address_text(&client.src_ip),
            population.texts.text(client.ja4),
            population.texts.text(client.host)
        ),
    }
}

/// The name of a group as the key of an incident; everybody of a host is no campaign.
fn group_key(group: &Group) -> Option<Key> {
    (group.kind != Kind::Host).then(|| Key {
        kind: group.kind.name().to_owned(),
        value: group.value.clone(),
    })
}

/// What each flagged client asks the budget for, by client number of the cycle (`entity`): once for all its windows.
pub fn asking(windows: &[(&Population, &Assessed, &Groups)]) -> BTreeMap<u64, Asking> {
    let mut asking = BTreeMap::<u64, Asking>::new();
    for (population, assessed, groups) in windows {
        let mut flagged = BTreeMap::<u32, usize>::new();
        let asks = |row: &&Assessment| row.outcome != Outcome::Normal && !row.is_by_label;
        for row in assessed.rows.iter().filter(asks) {
            for group in &groups.of_client[row.client] {
                *flagged.entry(*group).or_default() += 1;
            }
        }
        for row in assessed.rows.iter().filter(asks) {
            let entry = asking
                .entry(population.clients[row.client].entity)
                .or_insert_with(|| Asking {
                    keys: vec![client_key(population, row.client)],
                    joins: Vec::new(),
                    bits: 0.0,
                });
            entry.bits = entry.bits.max(row.bits);
            for number in &groups.of_client[row.client] {
                entry.joins.extend(group_key(&groups.groups[*number as usize]));
            }
            let joined = row
                .group
                .filter(|group| flagged.get(group).is_some_and(|n| *n >= GROUP_INCIDENT));
            if let Some(key) = joined.and_then(|group| group_key(&groups.groups[group as usize]))
                && !entry.keys.contains(&key)
            {
                entry.keys.push(key);
            }
        }
    }
    asking
}

/// Severity of a flagged client, as stored: 1 low to 4 critical.
pub fn severity(bits: f32) -> (i8, &'static str) {
    match bits {
        bits if bits >= 24.0 => (4, "critical"),
        bits if bits >= 16.0 => (3, "high"),
        bits if bits >= 10.0 => (2, "medium"),
        _ => (1, "low"),
    }
}

/// The window of a model's name, for callers that hold only the name.
pub fn window_of(name: &str) -> Option<Window> {
    match name.split_once('/')?.1 {
        "1h" => Some(Window::Hour),
        "24h" => Some(Window::Day),
        _ => None,
    }
}
