//! The store as a pod with a volume: killed while it is written to, its node switched off, its disk full. What it acknowledged is
//! there once, in its tables and in what its views make of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use ja4_e2e::store::{Store, StoreClient, count};
use ja4_e2e::{Case, Need, wait};
use serde_json::json;

/// Where the store runs.
const NODE: &str = "node2";
/// Kills of the store; each comes in the middle of inserts.
const KILLS: usize = 5;
/// Batches that are acknowledged between two blows.
const BETWEEN: u64 = 10;
/// Who writes at the same time.
const WRITERS: usize = 3;
/// Of each batch, on two days: an insert makes two parts in each table.
const ROWS: u64 = 200;
/// How long a writer tries a batch again.
const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn what_the_store_acknowledged_is_there_once_after_kills_and_a_power_cut() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("store", need, async |case| {
        let store = Store::start(&case, NODE).await?;
        let writers = Writers::start(&store)?;
        writers.go_on("at the start").await?;
        for n in 1..=KILLS {
            let pod = case.pods("app=store").await?;
            let pod = pod.first().context("the StatefulSet has a pod")?;
            case.nodes().process(pod, "store")?.kill()?;
            writers.go_on(&format!("after kill {n}")).await?;
        }
        ensure!(restarts(&case).await? >= KILLS, "the store was not killed");

        case.nodes().power_off(NODE)?;
        case.nodes().power_on(NODE)?;
        writers.go_on("after the power cut").await?;

        let acknowledged = writers.finish()?;
        case.stateful_set_ready("store").await?;
        holds_once(&store, acknowledged)
    });
}

#[test]
fn a_full_disk_is_said_and_over_when_there_is_room() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("store_full", need, async |case| {
        // The other test switches the other node off.
        let store = Store::start_on_small_disk(&case, "node1", 768).await?;
        let writers = Writers::start(&store)?;
        writers.go_on("at the start").await?;

        store.disk().fill(64 << 20)?;
        let refusal = insert(&store.client(), u64::MAX)
            .err()
            .context("an insert was taken by a full disk")?;
        let refusal = format!("{refusal:#}");
        ensure!(
            refusal.contains("bytes are free at /data/store") && refusal.contains("lower disk_free_min"),
            "the client does not learn what to do: {refusal}"
        );
        // It answers as before, and runs on.
        let rows = store.rows("SELECT count() AS n FROM ja4_logs.http_logs")?;
        ensure!(count(&rows[0]["n"]) >= BETWEEN * ROWS, "{rows:?}");
        let word = case
            .failed_schema("disk-full", &["--retention=http_logs_days=31"], |spec| {
                spec["backoffLimit"] = json!(0);
            })
            .await?;
        ensure!(word["reason"] == "DiskFull", "{word}");

        store.disk().empty()?;
        writers.go_on("with room again").await?;
        let acknowledged = writers.finish()?;
        holds_once(&store, acknowledged)?;
        ensure!(restarts(&case).await? == 0, "the store ended on the way");
        let log = case.log("store-0", "store").await?;
        for line in ["inserts are refused: ", "inserts are taken again"] {
            ensure!(log.matches(line).count() == 1, "not one line {line:?}:\n{log}");
        }
        Ok(())
    });
}

/// How often the store's container was started again.
async fn restarts(case: &Case) -> anyhow::Result<usize> {
    let pods = case.pods("app=store").await?;
    ensure!(!pods.is_empty(), "no pod of the store");
    let n: i32 = pods.iter().map(ja4_e2e::restarts).sum();
    Ok(usize::try_from(n)?)
}

/// Fails unless every acknowledged batch is there once, and counted once by a view.
fn holds_once(store: &Store, batches: u64) -> anyhow::Result<()> {
    let rows = store.rows(
        "SELECT count() AS n, uniqExact(boot, seq) AS distinct, uniqExact(boot) AS batches,
             (SELECT sum(requests) FROM ja4_processing.agg_host_ip_ja4_1h) AS counted
         FROM ja4_logs.http_logs WHERE host = 'store.test'",
    )?;
    let row = rows.first().context("a count has a row")?;
    let wanted = batches * ROWS;
    ensure!(
        count(&row["batches"]) == batches
            && ["n", "distinct", "counted"]
                .iter()
                .all(|name| count(&row[name]) == wanted),
        "{batches} batches of {ROWS} rows were acknowledged, stored: {row}"
    );
    Ok(())
}

/// Threads that insert batch after batch, each until it is acknowledged, as the correlator does.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Writers {
    fn start(store: &Store) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (next, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..WRITERS).map(|n| {
            let (stop, next, acknowledged) =
                (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&acknowledged));
            let client = store.client();
            std::thread::Builder::new()
                .name(format!("writer-{n}"))
                .spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        until_acknowledged(&client, next.fetch_add(1, Ordering::Relaxed))?;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
        });
        Ok(Self {
            threads: threads.collect::<Result<_, _>>()?,
            stop,
            acknowledged,
        })
    }

    /// Waits until they have got somewhere.
    async fn go_on(&self, when: &str) -> anyhow::Result<()> {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + BETWEEN;
        let what = format!("{BETWEEN} more batches are acknowledged {when}");
        wait::until(&what, PATIENCE, async || {
            ensure!(
                self.threads.iter().all(|thread| !thread.is_finished()),
                "a writer has given up"
            );
            Ok((self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
        .await
    }

    /// Lets each finish its batch; how many were acknowledged in all.
    fn finish(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("a writer panicked")??;
        }
        Ok(self.acknowledged.load(Ordering::Relaxed))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn until_acknowledged(client: &StoreClient, batch: u64) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match insert(client, batch) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            // It is killed, switched off or full on purpose.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Inserts a batch under its own token, so that it counts once however often it is sent.
fn insert(client: &StoreClient, batch: u64) -> anyhow::Result<()> {
    let settings = format!(
        "insert_deduplication_token=batch-{batch}&deduplicate_blocks_in_dependent_materialized_views=1"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut statement = "INSERT INTO ja4_logs.http_logs (ts, recv_ts, boot, seq, src_ip, method, host, path, status, match, ja4) \
                         FORMAT TSV\n"
        .to_owned();
    for n in 0..ROWS {
        let at = now - 86_400 * (n % 2);
        let client = n % 50;
        writeln!(
            statement,
            "{at}\t{at}\t{batch}\t{n}\t::ffff:192.0.2.{client}\tGET\tstore.test\t/item/{n}\t200\tnone\tt13d1516h2_{client}"
        )?;
    }
    client.ask("writer", &settings, &statement).map(drop)
}
