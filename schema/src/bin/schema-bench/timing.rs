//! Times the queries of `queries/` that the dashboard and the detector ask.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ja4_schema::Store;
use ja4_schema::queries::{self, Query};
use ja4_schema::synthetic::fill_in;
use serde::Serialize;

use crate::load::Background;
use crate::machine::Watch;

/// Times that a query is asked warm; the second slowest of them is its 95th percentile.
const N_WARM: usize = 20;
const P95: usize = N_WARM - 2;

/// Values of each facet that a page asks for: ten, and one to know of more.
const VALUES_PER_FACET: &str = "11";

/// Clients are split in so many parts when features of a day are asked.
const N_SHARDS: u32 = 4;

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;

/// What the rows are about: the end of their time, and one client that asked much.
#[derive(Debug)]
pub(crate) struct Window {
    end: i64,
    /// The one with most requests; empty until they are stored.
    client: String,
    /// Address and number of each client of a page: those with most requests.
    page: Vec<(String, String)>,
}

impl Window {
    /// Days that end now.
    pub(crate) async fn ending_now(store: &Store) -> anyhow::Result<Self> {
        let now = store
            .value("SELECT toString(toUnixTimestamp(now()))", &[])
            .await?
            .context("the store has no time")?;
        Ok(Self {
            end: now.parse().context("the store's time is no number")?,
            client: String::new(),
            page: Vec::new(),
        })
    }

    /// Finds the client with most requests among those that are stored.
    pub(crate) async fn find_client(&mut self, store: &Store) -> anyhow::Result<()> {
        let sql = "SELECT toString(src_ip) FROM {processing}.agg_host_ip_ja4_1h GROUP BY src_ip ORDER BY sum(requests) DESC LIMIT 1";
        self.client = store.value(sql, &[]).await?.context("no client is stored")?;
        let sql = "SELECT toString(src_ip), toString(any(entity_id)) FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= now() - INTERVAL 1 DAY GROUP BY src_ip, ja4, host ORDER BY sum(requests) DESC LIMIT 100";
        self.page = store
            .rows(sql, &[])
            .await?
            .into_iter()
            .filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone())))
            .collect();
        Ok(())
    }

    /// Addresses of a page's clients, as the store reads an array.
    fn ips(&self) -> String {
        let ips: Vec<String> = self.page.iter().map(|(ip, _)| format!("'{ip}'")).collect();
        format!("[{}]", ips.join(","))
    }

    /// Their numbers.
    fn ids(&self) -> String {
        let ids: Vec<&str> = self.page.iter().map(|(_, id)| id.as_str()).collect();
        format!("[{}]", ids.join(","))
    }

    /// Its end as SQL takes it.
    pub(crate) fn end_text(&self) -> String {
        self.end.to_string()
    }
}

/// Kinds of queries with a bar each; milliseconds, 95th percentile warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The pages that everyone looks at.
    Overview,
    /// Every other query of the dashboard.
    Dashboard,
    /// Full rows with three filters; recurrence of all clients.
    Heavy,
}

impl Kind {
    /// None for what the dashboard does not ask.
    fn of(query: &Query) -> Option<Self> {
        match query.name {
            "overview" | "facets" | "user_agents" | "heat_map" => Some(Self::Overview),
            "requests_filtered" | "recurrence" => Some(Self::Heavy),
            _ => query.reader().contains("dashboard").then_some(Self::Dashboard),
        }
    }

    fn bar_ms(self) -> u64 {
        match self {
            Self::Overview => 50,
            Self::Dashboard => 100,
            Self::Heavy => 200,
        }
    }
}

/// Bar of every query on a cold cache, and of every query beside inserts.
const COLD_BAR_MS: u64 = 300;
const BESIDE_BAR_MS: u64 = 200;

/// Puts in what a detector leaves.
pub(crate) async fn detections(store: &Store, window: &Window) -> anyhow::Result<()> {
    for statement in include_str!("detections.sql").split(";\n") {
        let sql = fill_in(statement, &[("end", &format!("toDateTime({})", window.end))]);
        store.execute(&sql).await.context("fill the detector's tables")?;
    }
    Ok(())
}

/// Value of a parameter for the generated rows.
fn value(name: &str, window: &Window) -> anyhow::Result<String> {
    Ok(match name {
        "from" => return Ok((window.end - DAY_S).to_string()),
        "to" => return Ok(window.end.to_string()),
        "limit" | "n" => "100",
        "step_s" => "300",
        "seconds" => "86400",
        "prefix" => "t13",
        "contains" => "Chrome/11",
        "ja4" => "",
        "user_agent" => "%Chrome/11%",
        "status_class" => "4",
        "path" => "/catalog/1",
        "kind" | "dim" => "ja4",
        "group_kind" => "host",
        "group_value" | "host" => "shop0.example",
        "status" => "open",
        "user_name" => "ada",
        "page" => "overview",
        "src_ip" => &window.client,
        "before_us" | "to_us" => return Ok((window.end * 1_000_000).to_string()),
        "from_us" | "since_us" => return Ok(((window.end - DAY_S) * 1_000_000).to_string()),
        "boot" | "seq" | "before_boot" | "before_seq" | "offset" => "0",
        "sort" => "requests",
        "model" => "web/1h",
        "ips" => return Ok(window.ips()),
        "ids" => return Ok(window.ids()),
        "incident_ids" => "['00000000-0000-0000-0000-000000000000']",
        "act_id" => "00000000-0000-0000-0000-000000000000",
        "value" => "t13d1512h2_8daaf6152771_c6ef3620",
        // `with_scored`: clients of the triage list that a filter of requests asks for.
        "value_id" | "with_scored" => "1",
        "ts" => "1970-01-01 00:00:00",
        other => anyhow::bail!("no value for parameter {other}"),
    }
    .to_owned())
}

/// What an analyst typed, where a query takes a filter: on requests, or on clients by their requests.
fn expression(query: &Query) -> String {
    let of_requests = "status >= 400 AND lower(left(path, length('/catalog/1'))) = '/catalog/1'";
    let text = query.text();
    if query.name.starts_with("filter_")
        || query.name == "overview"
        || query.name == "novelties"
        || query.name == "label_history"
    {
        return "1".to_owned();
    }
    if text.contains("{logs}.http_logs") {
        return of_requests.to_owned();
    }
    let clients = Query::named("filter_clients").map_or("", |clients| clients.body());
    format!(
        "entity_id GLOBAL IN ({})",
        clients.replace(queries::FILTER, of_requests)
    )
}

/// A parameter that is already text. An array of texts, `['a','b']`, goes as one: as a text its quotes would be escaped.
struct Raw<'t>(&'t str);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.strip_prefix("['").and_then(|rest| rest.strip_suffix("']")) {
            Some(texts) => serializer.collect_seq(texts.split("','")),
            None => serializer.serialize_str(self.0),
        }
    }
}

/// Asks once; how long it took and how many bytes came.
async fn ask(store: &Store, sql: &str, params: &[(&str, String)]) -> anyhow::Result<(Duration, usize)> {
    let started = Instant::now();
    let mut query = store.client().query_raw(sql);
    for (name, value) in params {
        query = query.param(name, Raw(value));
    }
    let bytes = query.fetch_bytes("RowBinary")?.collect().await?;
    Ok((started.elapsed(), bytes.len()))
}

/// Values of a query's parameters: those of the window, or of the request that `request.sql` shall find.
async fn params(
    store: &Store,
    query: &Query,
    window: &Window,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    for (name, _) in query.params() {
        let value = match (query.name, name) {
            ("facets", "limit") => VALUES_PER_FACET.to_owned(),
            _ => value(name, window)?,
        };
        params.push((name, value));
    }
    if query.name == "request" {
        let sql = "SELECT toString(ts), toString(src_ip), toString(boot), toString(seq) FROM {logs}.http_logs
                   WHERE src_ip = {src_ip:IPv6} LIMIT 1";
        let rows = store.rows(sql, &[("src_ip", &window.client)]).await?;
        let row = rows.first().context("the client has no request")?;
        for (name, found) in ["ts", "src_ip", "boot", "seq"].into_iter().zip(row) {
            if let Some(param) = params.iter_mut().find(|(known, _)| *known == name) {
                param.1.clone_from(found);
            }
        }
    }
    Ok(params)
}

/// Times what the dashboard asks: alone, first cold, or beside inserts.
pub(crate) async fn queries(
    store: &Store,
    window: &Window,
    watch: &Watch,
    beside: Option<Background>,
) -> anyhow::Result<()> {
    match beside {
        None => println!(
            "  {:<24} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8}",
            "", "cold", "best", "median", "p95", "worst", "bar", "CPU", "bytes"
        ),
        Some(_) => println!("\nthe same beside {} requests a second", crate::BACKGROUND_ROWS),
    }
    let mut kinds: Vec<(Kind, Query)> = queries::all()
        .filter_map(|query| Some((Kind::of(&query)?, query)))
        .collect();
    kinds.sort_by_key(|(kind, query)| (*kind, query.name));
    let mut missed = Vec::new();
    for (kind, query) in kinds {
        let sql = query.sql_where(store.names(), &expression(&query));
        let params = params(store, &query, window).await?;
        let cold = if beside.is_none() {
            for cache in [
                "MARK",
                "PRIMARY INDEX",
                "INDEX MARK",
                "UNCOMPRESSED",
                "QUERY CONDITION",
            ] {
                store.execute(&format!("SYSTEM DROP {cache} CACHE")).await?;
            }
            Some(ask(store, &sql, &params).await.with_context(|| query.name)?.0)
        } else {
            None
        };
        let mut times = Vec::new();
        let mut n_bytes = 0;
        let cpu_s = watch.cpu_s()?;
        for _ in 0..N_WARM {
            let (took, bytes) = ask(store, &sql, &params).await.with_context(|| query.name)?;
            times.push(took);
            n_bytes = bytes;
        }
        // On a machine that does something else as well this says more than the clock.
        let cpu_ms = (watch.cpu_s()? - cpu_s) * 1000.0 / N_WARM as f64;
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (median, p95, worst) = (ms(times[N_WARM / 2]), ms(times[P95]), ms(times[N_WARM - 1]));
        let bar = if beside.is_some() {
            BESIDE_BAR_MS
        } else {
            kind.bar_ms()
        };
        let cold_text = cold.map_or_else(String::new, |cold| format!("{:.1}", ms(cold)));
        println!(
            "  {:<24} {cold_text:>8} {:>8.1} {median:>8.1} {p95:>8.1} {worst:>8.1} {bar:>6} {cpu_ms:>8.1} {n_bytes:>8}",
            query.name,
            ms(times[0])
        );
        if p95 > bar as f64 || cold.is_some_and(|cold| ms(cold) > COLD_BAR_MS as f64) {
            missed.push(query.name);
        }
    }
    println!(
        "  above their bar: {}",
        if missed.is_empty() {
            "none".to_owned()
        } else {
            missed.join(", ")
        }
    );
    match beside {
        Some(background) => background.stop().await,
        None => Ok(()),
    }
}

/// Times the detector's features of all clients over the last hour and the last day.
pub(crate) async fn features(store: &Store, window: &Window, watch: &Watch) -> anyhow::Result<()> {
    let query = Query::named("features_window").context("queries/features_window.sql is not there")?;
    let sql = query.sql(store.names());
    println!("\nfeatures of all clients, seconds                  best   median    worst     bar");
    for (what, seconds, shards, bar) in [("1 h", HOUR_S, 1, 0.25), ("24 h, 4 parts", DAY_S, N_SHARDS, 2.0)] {
        let mut times = Vec::new();
        let before = watch.anonymous_mb()?;
        watch.mark();
        for _ in 0..5 {
            let mut total = Duration::ZERO;
            for shard in 0..shards {
                let params = [
                    ("from", (window.end - seconds).to_string()),
                    ("to", window.end.to_string()),
                    ("shards", shards.to_string()),
                    ("shard", shard.to_string()),
                ];
                total += ask(store, &sql, &params).await.context("features_window")?.0;
            }
            times.push(total.as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        println!(
            "  {what:<42} {:>9.2} {:>8.2} {:>8.2} {bar:>7}  (at most {:.0} MB more of memory, bar 250)",
            times[0],
            times[2],
            times[4],
            watch.marked_peak_mb() - before
        );
    }
    Ok(())
}
