//! One cycle: read, learn if it is time, score, decide, write.
//!
//! ```text
//! what was before ─> for each window: read ─> context ─> train? ─> groups ─> assess ─> budget ─> write ─> the cycle's row, last
//! ```
//!
//! A cycle is named by the end of its windows, so that a cycle that is repeated after a crash has the same id, the same tokens and,
//! shard by shard, the same clients: what was written is not written again. Its row in `ml_cycles` comes last and says that all
//! of it is there. Windows end on multiples of the interval: only closed windows are scored, late rows count in the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use ja4_model::CanonicalAddr;
use ja4_model::connection::Hex;
use ja4_reasons::{FEATURE_SET, FEATURES, Place, Reason, sentence};
use ja4_schema::rows::detection::{
    ActivationRow, AnomalyRow, ClientKey, CycleRow, DetectionEventRow, DetectionRow, GroupScoreRow,
    IncidentRow, ModelRow, ReasonTuple, ScoreRow, Verdict, VoiceTuple,
};
use sha2::{Digest as _, Sha256};

use crate::assess::{self, Assessed, Assessment, Explanations, Models, Outcome, Policy, assess, severity};
use crate::budget::{self, Decision, Key};
use crate::config::DetectorConfig;
use crate::consistency::Consistency;
use crate::features::context;
use crate::groups::Groups;
use crate::labels::{Effect, Verdicts, Who};
use crate::model::{FORMAT, Identity, Model, ModelError, reference};
use crate::population::Population;
use crate::scaler::Row;
use crate::segments::{Segment, Window, model_name};
use crate::state::{self, Seen, State};
use crate::stats::{mix, score_of_bits, text_hash};
use crate::tables::{
    FlaggedState, Incident, LabelledClient, LastCycle, ListedModel, TableError, Tables, known,
};
use crate::training::{Candidate, select};

/// Clients from which on a draft is worth fitting while there is no model.
const DRAFT_MIN: usize = 30;
/// A model is trained again early when there are so many times more clients than it was made of.
const GROWTH: u64 = 2;
/// Fewest groups' bits worth storing.
const GROUP_BITS_MIN: f32 = 0.5;

/// Why a cycle failed.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// The store.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A saved model in memory.
#[derive(Debug)]
struct Held {
    model: Model,
    is_armed: bool,
}

/// What a process keeps from cycle to cycle. All of it can be had from the store again.
#[derive(Debug, Default)]
pub struct Memory {
    held: BTreeMap<String, Held>,
    consistency: Consistency,
}

impl Memory {
    /// A saved model that is active.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.held.get(name).map(|held| &held.model)
    }
}

/// What a cycle did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its row.
    pub row: CycleRow,
    /// It was done before; nothing was written.
    pub was_done: bool,
    /// What happened to models, one line each.
    pub events: Vec<String>,
}

/// End of the newest window that may be read at `now`.
pub fn due_end(now_s: i64, interval: Duration, settle: Duration) -> i64 {
    let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let settled = now_s - i64::try_from(settle.as_secs()).unwrap_or(0);
    settled.div_euclid(interval) * interval
}

/// Id of the cycle whose windows end at `to_s`.
pub fn cycle_id(to_s: i64) -> u128 {
    id_of("cycle", to_s.cast_unsigned())
}

/// An id that is the same for the same words and number.
fn id_of(words: &str, number: u64) -> u128 {
    let high = mix(text_hash(words), number);
    let low = mix(high, text_hash(words).rotate_left(17));
    // Version 8 (own scheme) and variant bits of a UUID.
    let id = u128::from(high) << 64 | u128::from(low);
    id & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62
}

/// Runs the cycle whose windows end at `to_s`, and writes its row. `now_us` is the wall clock, for the record.
///
/// # Errors
/// If the store or a model fails; the caller records that with [`record_failure`].
pub async fn run(
    config: &DetectorConfig,
    tables: &Tables,
    memory: &mut Memory,
    to_s: i64,
    now_us: i64,
) -> Result<Report, CycleError> {
    let (started, cpu) = (Instant::now(), cpu_ms());
    let last = tables.last_cycle(to_s).await?;
    let id = cycle_id(to_s);
    if last.done.contains(&uuid::Uuid::from_u128(id).to_string()) {
        return Ok(Report {
            was_done: true,
            ..Report::default()
        });
    }
    let mut cycle = Cycle {
        config,
        tables,
        policy: config.policy(),
        id,
        to_s,
        verdicts: tables.verdicts().await?,
        listed: tables.models().await?,
        flagged: tables
            .flagged(to_s, 86_400.max(seconds(config.training.flagged_expire.0)))
            .await?,
        incidents: tables.incidents(to_s).await?,
        relabelled: tables.labels_changed(last.started_us).await?,
        minutes: tables.minutes(to_s).await?,
        last,
        touched: BTreeMap::new(),
        report: Report::default(),
        states: BTreeMap::new(),
        saved_states: BTreeMap::new(),
    };
    cycle.load_models(memory).await?;
    cycle.report.row = CycleRow {
        started_at_us: now_us,
        cycle_id: id,
        window_end_s: u32::try_from(to_s).unwrap_or(0),
        labels_seen: cycle.verdicts.newest_label,
        budget: config.alert_budget_per_day,
        ..CycleRow::default()
    };
    let windows: &[Window] = if config.multiwindow {
        &[Window::Day, Window::Hour]
    } else {
        &[Window::Hour]
    };
    let mut clients_a_day = 0;
    for window in windows {
        let population = cycle.read(memory, *window).await?;
        if clients_a_day == 0 {
            // Without the day's window an hour stands for it, four times over: clients stay and come back.
            clients_a_day = if *window == Window::Day {
                population.n()
            } else {
                population.n() * 4
            };
        }
        cycle.window(memory, &population, clients_a_day).await?;
    }
    cycle.write_incidents().await?;
    let mut report = cycle.finish();
    report.row.duration_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    report.row.cpu_ms = u32::try_from(cpu_ms().saturating_sub(cpu)).unwrap_or(u32::MAX);
    tables
        .write([report.row.clone()], &format!("{id:032x}-cycle"))
        .await?;
    Ok(report)
}

/// Records that a cycle failed.
///
/// # Errors
/// If the store cannot be written either, which is often why it failed.
pub async fn record_failure(tables: &Tables, to_s: i64, now_us: i64, error: &str) -> Result<(), TableError> {
    let row = CycleRow {
        started_at_us: now_us,
        cycle_id: cycle_id(to_s),
        window_end_s: u32::try_from(to_s).unwrap_or(0),
        error: error.to_owned(),
        ..CycleRow::default()
    };
    tables
        .write([row], &format!("{:032x}-failed-{now_us}", cycle_id(to_s)))
        .await?;
    Ok(())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Processor time of this process so far, milliseconds.
pub fn cpu_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}

struct Cycle<'a> {
    config: &'a DetectorConfig,
    tables: &'a Tables,
    policy: Policy,
    id: u128,
    to_s: i64,
    verdicts: Verdicts,
    listed: Vec<ListedModel>,
    flagged: HashMap<(u64, String), FlaggedState>,
    incidents: BTreeMap<Key, Incident>,
    minutes: u64,
    /// Clients whose label has changed since the last cycle.
    relabelled: HashSet<LabelledClient>,
    last: LastCycle,
    /// Incidents that this cycle opened or went on with.
    touched: BTreeMap<Key, Incident>,
    report: Report,
    /// Of the models that scored somebody.
    states: BTreeMap<String, State>,
    /// Of those that could have.
    saved_states: BTreeMap<String, State>,
}

impl Cycle<'_> {
    fn to_us(&self) -> i64 {
        self.to_s * 1_000_000
    }

    fn since_us(&self) -> i64 {
        self.last.end_s * 1_000_000
    }

    /// Brings the models in memory up to what is active in the store: another process, or a rollback, may have changed it.
    async fn load_models(&mut self, memory: &mut Memory) -> Result<(), CycleError> {
        memory.held.retain(|name, held| {
            self.listed.iter().any(|model| {
                &model.name == name && model.is_active && model.version == held.model.identity.version
            })
        });
        for listed in self.listed.iter().filter(|model| model.is_active) {
            if let Some(held) = memory.held.get_mut(&listed.name) {
                held.is_armed = listed.is_armed;
                continue;
            }
            if Segment::named(listed.name.split('/').next().unwrap_or("")).is_none() {
                continue;
            }
            let Some(bytes) = self.tables.model_bytes(&listed.name, listed.version).await? else {
                continue;
            };
            match Model::from_bytes(&bytes) {
                Ok(mut model) => {
                    model.identity.name.clone_from(&listed.name);
                    model.identity.version = listed.version;
                    model.set_threads(self.config.threads);
                    memory.held.insert(
                        listed.name.clone(),
                        Held {
                            model,
                            is_armed: listed.is_armed,
                        },
                    );
                }
                Err(error) => {
                    let why = ja4_common::exit::chain(&error);
                    tracing::warn!("model {} {} is left out: {why}", listed.name, listed.version);
                    self.report
                        .events
                        .push(format!("{} {}: {why}", listed.name, listed.version));
                }
            }
        }
        Ok(())
    }

    async fn read(&self, memory: &mut Memory, window: Window) -> Result<Population, CycleError> {
        let shards = self.config.shards;
        let mut population = self
            .tables
            .population(window, self.to_s, shards, &mut memory.consistency)
            .await?;
        let outside = self.tables.outside(window, self.to_s, shards).await?;
        context::fill(&mut population, &outside, self.to_s);
        Ok(population)
    }

    async fn window(
        &mut self,
        memory: &mut Memory,
        population: &Population,
        clients_a_day: usize,
    ) -> Result<(), CycleError> {
        let window = population.window;
        let ready = self.ready(population);
        self.report.row.entities = self.report.row.entities.max(population.n() as u64);
        self.progress("entities_ready", ready.len() as f64);
        self.progress("entities_needed", self.config.state.entities as f64);
        self.progress("minutes_seen", self.minutes as f64);
        self.progress("minutes_needed", self.config.state.minutes as f64);
        for segment in Segment::EVERY {
            self.train(memory, population, &ready, segment, clients_a_day)
                .await?;
        }
        let draft = self.draft(memory, population, &ready)?;
        let mut models = Models {
            draft: draft.as_ref(),
            ..Models::default()
        };
        for segment in Segment::EVERY {
            let name = model_name(segment, window);
            let Some(held) = memory.held.get(&name) else {
                continue;
            };
            let state = state::next(&self.config.state, &self.seen(&name, ready.len(), Some(held)));
            if state == State::Armed && !held.is_armed {
                let cycles = self.config.state.stable_cycles;
                self.activate(
                    &name,
                    held.model.identity.version,
                    true,
                    &format!("calibration held for {cycles} cycles"),
                )
                .await?;
            }
            models.saved.insert(segment, (&held.model, state));
            self.saved_states.insert(name, state);
        }
        let scaler = models
            .saved
            .get(&Segment::All)
            .map(|(model, _)| *model)
            .or(draft.as_ref())
            .map(Model::scaler);
        let is_flagged: Vec<bool> = population
            .clients
            .iter()
            .map(|client| {
                client
                    .finding
                    .as_ref()
                    .is_some_and(|finding| finding.bits >= self.policy.consistency_floor)
            })
            .collect();
        let groups = Groups::measure(population, scaler, &is_flagged);
        let chosen: Vec<usize> = (0..population.n())
            .filter(|idx| {
                population.clients[*idx].last_us >= self.since_us() || self.is_relabelled(population, *idx)
            })
            .collect();
        let mut assessed = assess(
            population,
            &chosen,
            &models,
            &groups,
            &self.verdicts,
            &self.policy,
            clients_a_day,
        )?;
        let armed: Vec<String> = models
            .saved
            .iter()
            .filter(|(_, (_, state))| *state == State::Armed)
            .map(|(segment, _)| model_name(*segment, window))
            .collect();
        self.count(population, &assessed);
        let incident_of = self.decide(population, &mut assessed, &models, &groups);
        self.write_window(population, &assessed, &models, &groups, &incident_of)
            .await?;
        for name in armed {
            if let Some(held) = memory.held.get_mut(&name) {
                held.is_armed = true;
            }
        }
        Ok(())
    }

    fn progress(&mut self, name: &str, value: f64) {
        let progress = &mut self.report.row.progress;
        match progress.iter_mut().find(|(known, _)| known == name) {
            // Of two windows the day's comes first and counts.
            Some(_) => {}
            None => progress.push((name.to_owned(), value)),
        }
    }

    /// Clients with enough requests.
    fn ready(&self, population: &Population) -> Vec<usize> {
        let least = self.policy.min_requests;
        (0..population.n())
            .filter(|idx| population.clients[*idx].requests >= least)
            .collect()
    }

    fn seen(&self, name: &str, entities: usize, held: Option<&Held>) -> Seen {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that was stored as a number"
        )]
        let stable_cycles = self.last.progress.get(&stable_key(name)).copied().unwrap_or(0.0) as u64;
        Seen {
            entities: entities as u64,
            minutes: self.minutes,
            has_model: held.is_some(),
            was_armed: held.is_some_and(|held| held.is_armed),
            stable_cycles,
        }
    }

    /// Trains the model of a segment if it is time.
    async fn train(
        &mut self,
        memory: &mut Memory,
        population: &Population,
        ready: &[usize],
        segment: Segment,
        clients_a_day: usize,
    ) -> Result<(), CycleError> {
        let members: Vec<usize> = ready
            .iter()
            .copied()
            .filter(|idx| segment == Segment::All || population.clients[*idx].segment == segment)
            .collect();
        let name = model_name(segment, population.window);
        let before = memory.held.get(&name);
        let enough = state::may_train(&self.config.state, &self.seen(&name, ready.len(), before))
            && (segment == Segment::All || members.len() >= self.config.training.segment_min);
        if !enough || !self.is_due(&name, members.len(), before) {
            return Ok(());
        }
        let versions = || {
            self.listed
                .iter()
                .filter(|model| model.name == name)
                .map(|model| model.version)
        };
        let seed = mix(self.config.seed, mix(text_hash(&name), self.to_s.cast_unsigned()));
        let (rows, n_excluded) = self.selected(population, &members, seed);
        let identity = Identity {
            version: versions().max().unwrap_or(0) + 1,
            from_s: self.to_s - population.window.seconds(),
            to_s: self.to_s,
            trained_s: self.to_s,
            n_seen: members.len() as u64,
            n_excluded,
            seed,
            name: name.clone(),
            ..Identity::default()
        };
        let predecessor = before.map(|held| &held.model);
        let model = Model::fit(identity, &rows, self.config.threads, predecessor)?;
        let threshold = assess::threshold(&self.policy, clients_a_day);
        let gate = self.gate(&rows, &model, predecessor, threshold)?;
        let version = model.identity.version;
        self.save(&model, &gate).await?;
        self.listed.push(ListedModel {
            name: name.clone(),
            version,
            trained_s: self.to_s,
            ..ListedModel::default()
        });
        if gate.is_refused {
            let event = format!(
                "{name} {version} refused: it would alert on {:.2} % of held-back clients, its predecessor on {:.2} %",
                gate.after * 100.0,
                gate.before * 100.0
            );
            tracing::warn!("{event}");
            self.report.events.push(event);
            self.progress(&format!("refused:{name}"), f64::from(version));
            return Ok(());
        }
        let was_armed = before.is_some_and(|held| held.is_armed);
        let n_rows = model.identity.n_rows;
        self.activate(
            &name,
            version,
            was_armed,
            &format!("trained on {n_rows} clients, {n_excluded} left out"),
        )
        .await?;
        let event = format!("{name} {version} trained on {n_rows} clients, {n_excluded} left out");
        tracing::info!("{event}");
        self.report.events.push(event);
        memory.held.insert(
            name,
            Held {
                model,
                is_armed: was_armed,
            },
        );
        Ok(())
    }

    fn is_due(&self, name: &str, n_members: usize, before: Option<&Held>) -> bool {
        let newest = self
            .listed
            .iter()
            .filter(|model| model.name == name)
            .map(|model| model.trained_s)
            .max();
        let Some(newest) = newest else { return true };
        let has_grown = before.is_some_and(|held| {
            // Beyond what a model is trained on, more clients change nothing.
            let seen = held.model.identity.n_seen;
            seen < self.config.training.rows_max as u64 && n_members as u64 >= GROWTH * seen.max(1)
        });
        let age = self.to_s - newest;
        age >= seconds(self.config.training.retrain_after.0) || has_grown
    }

    fn candidates(&self, population: &Population, members: &[usize]) -> Vec<Candidate> {
        let expire_us = seconds(self.config.training.flagged_expire.0) * 1_000_000;
        let mut flagged = HashMap::<u64, i64, ahash::RandomState>::default();
        self.flagged.iter().for_each(|((entity, _), state)| {
            let last = flagged.entry(*entity).or_insert(state.last_us);
            *last = (*last).max(state.last_us);
        });
        members
            .iter()
            .map(|idx| {
                let client = &population.clients[*idx];
                let effect = self.effect(population, *idx);
                let found = client
                    .finding
                    .as_ref()
                    .is_some_and(|finding| finding.bits >= self.policy.consistency_floor);
                let before = flagged
                    .get(&client.entity)
                    .copied()
                    .filter(|last| self.to_us() - last < expire_us);
                Candidate {
                    entity: client.entity,
                    pair: mix(u64::from(client.ja4), prefix_hash(&client.prefix())),
                    is_bad: effect == Some(Effect::Flag),
                    is_good: effect == Some(Effect::Suppress),
                    flagged_us: before.or_else(|| found.then(|| self.to_us())),
                }
            })
            .collect()
    }

    fn effect(&self, population: &Population, idx: usize) -> Option<Effect> {
        let client = &population.clients[idx];
        let texts = &population.texts;
        let who = Who {
            src_ip: client.src_ip,
            ja4: texts.text(client.ja4),
            host: texts.text(client.host),
            user_agent: texts.text(client.user_agent),
        };
        self.verdicts.of(&who).map(|verdict| verdict.effect)
    }

    /// Whether an analyst has judged it since the last cycle: it need not ask again for that to show.
    fn is_relabelled(&self, population: &Population, idx: usize) -> bool {
        if self.relabelled.is_empty() {
            return false;
        }
        let client = &population.clients[idx];
        let texts = &population.texts;
        let (ja4, host) = (texts.text(client.ja4), texts.text(client.host));
        self.relabelled
            .contains(&(client.src_ip, ja4.to_owned(), host.to_owned()))
    }

    /// Rows to learn from, in a random order, and how many clients were left out.
    fn selected<'p>(&self, population: &'p Population, members: &[usize], seed: u64) -> (Vec<Row<'p>>, u64) {
        let candidates = self.candidates(population, members);
        let selection = select(&candidates, &self.config.limits(), seed);
        let rows = selection.kept.iter().map(|idx| population.row(members[*idx]));
        (rows.collect(), selection.n_excluded as u64)
    }

    /// Asks what a new model would say of benign rows that it was not fitted on, against its predecessor.
    fn gate(
        &self,
        rows: &[Row<'_>],
        model: &Model,
        before: Option<&Model>,
        threshold: f32,
    ) -> Result<Gate, CycleError> {
        let Some(before) = before else {
            return Ok(Gate::default());
        };
        let reference = reference(rows);
        let memory = before.memory();
        let n = memory.len() + reference.len();
        let share = |alerts: usize| alerts as f64 / n.max(1) as f64;
        let gate = Gate {
            before: share(before.n_alerts(&memory, threshold)? + before.n_alerts(&reference, threshold)?),
            after: share(model.n_alerts(&memory, threshold)? + model.n_alerts_of_reference(threshold)),
            n,
            is_refused: false,
        };
        // Below one alert in all rows a rate cannot be told from none.
        let is_refused =
            gate.after > self.config.training.refuse_factor * gate.before.max(1.0 / gate.n.max(1) as f64);
        Ok(Gate { is_refused, ..gate })
    }

    async fn save(&self, model: &Model, gate: &Gate) -> Result<(), CycleError> {
        let identity = &model.identity;
        let blob = model.to_bytes();
        let digest = Sha256::digest(&blob);
        let row = ModelRow {
            model_name: identity.name.clone(),
            model_version: identity.version,
            trained_at_s: to_u32(identity.trained_s),
            window_start_s: to_u32(identity.from_s),
            window_end_s: to_u32(identity.to_s),
            n_rows: identity.n_rows,
            n_excluded: identity.n_excluded,
            metrics: vec![
                ("alert_rate_before".to_owned(), gate.before),
                ("alert_rate_held_back".to_owned(), gate.after),
                ("held_back".to_owned(), gate.n as f64),
                ("reference".to_owned(), model.n_reference() as f64),
                ("refused".to_owned(), f64::from(u8::from(gate.is_refused))),
            ],
            feature_set: FEATURE_SET.to_owned(),
            feature_names: FEATURES.iter().map(|feature| feature.name.to_owned()).collect(),
            seed: identity.seed,
            format: FORMAT,
            sha256: Hex(&digest).to_string(),
            blob,
        };
        self.tables
            .write(
                [row],
                &format!("{:032x}-{}-{}", self.id, identity.name, identity.version),
            )
            .await?;
        Ok(())
    }

    async fn activate(&self, name: &str, version: u32, armed: bool, reason: &str) -> Result<(), CycleError> {
        let row = ActivationRow {
            model_name: name.to_owned(),
            activated_at_us: self.to_us() + i64::from(armed),
            model_version: version,
            armed,
            author: "detector".to_owned(),
            reason: reason.to_owned(),
        };
        self.tables
            .write(
                [row],
                &format!("{:032x}-{name}-{version}-{}", self.id, u8::from(armed)),
            )
            .await?;
        Ok(())
    }

    /// A model of the moment, while there is none that could be saved: it ranks.
    fn draft(
        &self,
        memory: &Memory,
        population: &Population,
        ready: &[usize],
    ) -> Result<Option<Model>, CycleError> {
        let name = model_name(Segment::All, population.window);
        if memory.held.contains_key(&name) || ready.len() < DRAFT_MIN {
            return Ok(None);
        }
        let identity = Identity {
            name,
            n_seen: ready.len() as u64,
            seed: mix(self.config.seed, 1),
            ..Identity::default()
        };
        let (rows, _) = self.selected(population, ready, identity.seed);
        Ok(Some(Model::fit(identity, &rows, self.config.threads, None)?))
    }

    fn count(&mut self, population: &Population, assessed: &Assessed) {
        let row = &mut self.report.row;
        row.scored = row.scored.max(assessed.rows.len() as u64);
        for (name, n) in [
            ("inactive", (population.n() - assessed.rows.len()) as u64),
            ("few_requests", assessed.n_few_requests),
        ] {
            row.skipped
                .push((format!("{name}/{}", population.window.name()), n));
        }
        row.suppressed_by_label += assessed.rows.iter().filter(|row| row.is_suppressed).count() as u64;
        row.thresholds.extend(
            assessed
                .thresholds
                .iter()
                .map(|(name, bits)| (name.clone(), *bits)),
        );
        for (name, (scored, above)) in &assessed.agreement {
            let before = self.seen(name, 0, None).stable_cycles;
            let stable = state::count_stable(&self.config.state, before, *scored, *above);
            self.report.row.progress.push((stable_key(name), stable as f64));
        }
        for assessment in &assessed.rows {
            self.states.insert(assessment.model.clone(), assessment.state);
        }
        // Models that scored nobody this time keep what they had counted.
        for (key, value) in &self.last.progress {
            let is_other = key.starts_with("stable:")
                && key.ends_with(population.window.name())
                && !self.report.row.progress.iter().any(|(known, _)| known == key);
            if is_other {
                self.report.row.progress.push((key.clone(), *value));
            }
        }
    }

    /// Asks the budget for every flagged client; gives the incident of each that got an alert.
    fn decide(
        &mut self,
        population: &Population,
        assessed: &mut Assessed,
        models: &Models<'_>,
        groups: &Groups,
    ) -> HashMap<usize, u128> {
        let asking = assess::asking(&[(population, assessed, groups)]);
        let entities: Vec<u64> = asking.keys().copied().collect();
        let asking: Vec<_> = asking.into_values().collect();
        let outcome = budget::decide(
            &asking,
            &known(&self.incidents),
            self.config.alert_budget_per_day,
            self.to_us(),
        );
        self.report.row.suppressed += outcome.suppressed;
        self.report.row.budget_used = outcome.used;
        let decisions: HashMap<u64, &Decision> = entities.into_iter().zip(&outcome.decisions).collect();
        let mut explanations = Explanations::new(population, models, groups, &self.verdicts);
        let mut alerts = Vec::new();
        for (number, row) in assessed.rows.iter_mut().enumerate() {
            if row.outcome == Outcome::Normal || row.is_by_label {
                continue;
            }
            let client = &population.clients[row.client];
            let Some(Decision::Joins(key) | Decision::Opens(key)) = decisions.get(&client.entity) else {
                continue;
            };
            row.outcome = Outcome::Alert;
            let reasons = explanations.reasons(row);
            let place = Place::of_model(&row.model, population.texts.text(client.host));
            alerts.push((number, key, row.bits, title(key, reasons.first(), &place)));
        }
        alerts
            .into_iter()
            .map(|(number, key, bits, title)| (number, self.touch(key, bits, title)))
            .collect()
    }

    /// Opens or goes on with an incident.
    fn touch(&mut self, key: &Key, bits: f32, title: String) -> u128 {
        let now_us = self.to_us();
        let (rank, name) = severity(bits);
        let is_open = self
            .incidents
            .get(key)
            .is_some_and(|incident| now_us - incident.last_us < budget::DAY_US);
        if !is_open {
            let incident = Incident {
                id: id_of(&format!("{} {}", key.kind, key.value), self.to_s.cast_unsigned()),
                opened_us: now_us,
                status: "open".to_owned(),
                severity: name.to_owned(),
                title,
                ..Incident::default()
            };
            self.incidents.insert(key.clone(), incident);
        }
        let incident = self
            .incidents
            .get_mut(key)
            .expect("it was opened just now or is open");
        incident.last_us = now_us;
        // An analyst's act has the wall clock as version; ours must follow it.
        incident.version = incident.version.max(now_us.cast_unsigned()) + 1;
        if rank > severity_rank(&incident.severity) {
            name.clone_into(&mut incident.severity);
        }
        self.touched.insert(key.clone(), incident.clone());
        incident.id
    }

    async fn write_window(
        &mut self,
        population: &Population,
        assessed: &Assessed,
        models: &Models<'_>,
        groups: &Groups,
        incident_of: &HashMap<usize, u128>,
    ) -> Result<(), CycleError> {
        let window = population.window;
        let token = format!("{:032x}-{}", self.id, window.name());
        let end_s = to_u32(self.to_s);
        let mut explanations = Explanations::new(population, models, groups, &self.verdicts);
        let mut first = 0;
        for (shard, end) in population.shard_ends.iter().enumerate() {
            // Rows are in the order of the population, which is that of the shards.
            let n = assessed.rows[first..].partition_point(|row| row.client < *end);
            let rows = &assessed.rows[first..first + n];
            first += n;
            let rows = rows
                .iter()
                .map(|row| OwnedScore::new(population, row, &mut explanations, end_s));
            self.tables.write(rows, &format!("{token}-{shard}")).await?;
        }
        let flagged: Vec<(usize, &Assessment)> = assessed
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.outcome != Outcome::Normal)
            .collect();
        let alerts = flagged
            .iter()
            .filter(|(_, row)| row.outcome == Outcome::Alert)
            .count() as u64;
        self.report.row.flagged = self.report.row.flagged.max(flagged.len() as u64);
        self.report.row.alerts = self.report.row.alerts.max(alerts);
        let prepared: Vec<(ClientKey, Verdict)> = flagged
            .iter()
            .map(|(_, row)| (client_key(population, row.client), said(row, &mut explanations)))
            .collect();
        let events = flagged
            .iter()
            .zip(&prepared)
            .map(|((_, row), (client, said))| DetectionEventRow {
                detected_at_us: self.to_us(),
                detection_id: id_of(&format!("{:032x} {}", self.id, row.model), client.entity_id),
                client,
                said,
                cycle_id: self.id,
                window_end_s: end_s,
                severity: severity(row.bits).0,
                feature_set: FEATURE_SET,
                features: population.values(row.client),
            });
        self.tables.write(events, &token).await?;
        let anomalies = flagged
            .iter()
            .zip(&prepared)
            .map(|((number, row), (client, said))| {
                let before = self.flagged.get(&(client.entity_id, row.model.clone()));
                let before = before.filter(|before| self.to_us() - before.last_us < budget::DAY_US);
                AnomalyRow {
                    client,
                    said,
                    version: self.to_us().cast_unsigned(),
                    detected_at_us: self.to_us(),
                    first_detected_at_us: before.map_or_else(|| self.to_us(), |before| before.first_us),
                    cycles_flagged: before.map_or(1, |before| before.cycles + 1),
                    window_start_s: to_u32(self.to_s - window.seconds()),
                    window_end_s: end_s,
                    threshold: row.threshold,
                    severity: severity(row.bits).0,
                    state: if row.outcome == Outcome::Alert { 2 } else { 1 },
                    requests: u64::from(population.clients[row.client].requests),
                    incident_id: incident_of.get(number).copied().unwrap_or(0),
                }
            });
        self.tables.write(anomalies, &token).await?;
        let group_rows = groups.groups.iter().filter_map(|group| {
            let (bits, reason) = group.bits(groups.site);
            (bits >= GROUP_BITS_MIN).then(|| GroupScoreRow {
                window_end_s: end_s,
                group_kind: group.kind.name(),
                group_value: group.value.clone(),
                model_name: format!("group/{}", window.name()),
                model_version: 0,
                clients: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
                requests: group.requests,
                score: score_of_bits(bits),
                reasons: reason.into_iter().map(tuple).collect(),
            })
        });
        self.tables.write(group_rows, &token).await?;
        Ok(())
    }

    async fn write_incidents(&self) -> Result<(), CycleError> {
        let rows = self.touched.iter().map(|(key, incident)| IncidentRow {
            incident_id: incident.id,
            version: incident.version,
            opened_at_us: incident.opened_us,
            last_alert_at_us: incident.last_us,
            status: incident.status.clone(),
            severity: incident.severity.clone(),
            title: incident.title.clone(),
            group_kind: key.kind.clone(),
            group_value: key.value.clone(),
            assignee: incident.assignee.clone(),
            note: incident.note.clone(),
        });
        self.tables.write(rows, &format!("{:032x}", self.id)).await?;
        Ok(())
    }

    fn finish(mut self) -> Report {
        let row = &mut self.report.row;
        state::overall(self.states.iter().map(|(name, state)| (name.as_str(), *state)))
            .name()
            .clone_into(&mut row.state);
        // Nobody asked: a quiet night does not make a model unlearn.
        let is_quiet = self.states.is_empty() && !self.last.state.is_empty();
        if is_quiet {
            row.state.clone_from(&self.last.state);
        }
        row.model_states = if is_quiet {
            &self.saved_states
        } else {
            &self.states
        }
        .iter()
        .map(|(name, state)| (name.clone(), state.name().to_owned()))
        .collect();
        self.report
    }
}

/// What the gate measured.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    before: f64,
    after: f64,
    n: usize,
    is_refused: bool,
}

/// Appends the row of `ml_all_scores` of an assessment, as it is sent.
pub fn encode_score(
    population: &Population,
    row: &Assessment,
    explanations: &mut Explanations<'_>,
    end_s: u32,
    out: &mut Vec<u8>,
) {
    OwnedScore::new(population, row, explanations, end_s).write(out);
}

/// A score with its texts and reasons, which are made when it is written and not kept.
struct OwnedScore<'a> {
    row: &'a Assessment,
    population: &'a Population,
    client: ClientKey,
    said: Verdict,
    end_s: u32,
}

impl<'a> OwnedScore<'a> {
    fn new(
        population: &'a Population,
        row: &'a Assessment,
        explanations: &mut Explanations<'_>,
        end_s: u32,
    ) -> Self {
        Self {
            row,
            population,
            client: client_key(population, row.client),
            said: said(row, explanations),
            end_s,
        }
    }
}

impl DetectionRow for OwnedScore<'_> {
    const TABLE: &'static str = ScoreRow::TABLE;
    const COLUMNS: &'static [&'static str] = ScoreRow::COLUMNS;

    fn write(&self, out: &mut Vec<u8>) {
        ScoreRow {
            window_end_s: self.end_s,
            client: &self.client,
            said: &self.said,
            requests: self.population.clients[self.row.client].requests,
            feature_set: FEATURE_SET,
            features: self.population.values(self.row.client),
            verdict: self.row.outcome as i8,
        }
        .write(out);
    }
}

fn stable_key(name: &str) -> String {
    format!("stable:{name}")
}

fn severity_rank(name: &str) -> i8 {
    match name {
        "critical" => 4,
        "high" => 3,
        "medium" => 2,
        _ => 1,
    }
}

fn to_u32(seconds: i64) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}

fn prefix_hash(prefix: &[u8; 16]) -> u64 {
    let number = u128::from_be_bytes(*prefix);
    #[expect(clippy::cast_possible_truncation, reason = "halves of 128 bits")]
    let (high, low) = ((number >> 64) as u64, number as u64);
    mix(high, low)
}

fn client_key(population: &Population, idx: usize) -> ClientKey {
    let client = &population.clients[idx];
    ClientKey {
        src_ip: CanonicalAddr(client.src_ip),
        ja4: population.texts.text(client.ja4).to_owned(),
        host: population.texts.text(client.host).to_owned(),
        entity_id: client.entity,
    }
}

fn said(row: &Assessment, explanations: &mut Explanations<'_>) -> Verdict {
    Verdict {
        model_name: row.model.clone(),
        model_version: row.version,
        model_state: row.state.name(),
        segment: row.segment.name(),
        score: score_of_bits(row.bits),
        evidence_bits: row.bits,
        voices: row
            .says()
            .map(|say| VoiceTuple {
                voice: say.voice,
                raw: say.raw,
                p_value: say.p,
                contribution: say.bits,
            })
            .collect(),
        reasons: explanations.reasons(row).into_iter().map(tuple).collect(),
    }
}

fn tuple(reason: Reason) -> ReasonTuple {
    ReasonTuple {
        voice: reason.voice,
        feature: reason.feature,
        value: reason.value,
        median: reason.median,
        percentile: reason.percentile,
        contribution: reason.contribution,
        declared: reason.declared,
        observed: reason.observed,
        source: reason.source,
    }
}

/// One line: who, and the strongest reason.
fn title(key: &Key, strongest: Option<&Reason>, place: &Place<'_>) -> String {
    /// Longest title, characters.
    const MAX: usize = 300;
    let why = strongest.map_or_else(String::new, |reason| sentence(reason, place));
    let who = if key.kind == "client" {
        key.value.clone()
    } else {
        format!("{} {}", key.kind, key.value)
    };
    format!("{who}: {why}").chars().take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_on_multiples_of_the_interval() {
        let (interval, settle) = (Duration::from_mins(5), Duration::from_secs(5));
        assert_eq!(due_end(1_000_000_204, interval, settle), 999_999_900);
        assert_eq!(due_end(1_000_000_205, interval, settle), 1_000_000_200);
    }

    #[test]
    fn ids_depend_on_what_they_name_and_on_nothing_else() {
        assert_eq!(cycle_id(300), cycle_id(300));
        assert_ne!(cycle_id(300), cycle_id(600));
        let id = uuid::Uuid::from_u128(cycle_id(300));
        assert_eq!(
            (id.get_version_num(), id.get_variant()),
            (8, uuid::Variant::RFC4122)
        );
    }
}
