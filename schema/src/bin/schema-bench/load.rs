//! Makes rows in one store and puts them into another, batch by batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ja4_schema::synthetic::SyntheticRequests;
use ja4_schema::{RetentionDays, Store, apply, migrations};

use crate::POLL;
use crate::machine::Watch;
use crate::timing::Window;

/// Rows of each phase that is not the whole load.
const PHASE_ROWS: u64 = 500_000;

/// Rows made by one statement; its expressions take 5 kB a row.
const PIECE_ROWS: usize = 25_000;

/// Inserts of which the fixed cost is measured.
const N_SMALL: u64 = 50;

/// Makes the rows of the load, in a store of its own.
#[derive(Debug)]
pub(crate) struct Generator {
    store: Store,
    rows: u64,
    end: String,
}

impl Generator {
    /// Makes a table without views in `store`.
    pub(crate) async fn new(store: Store, rows: u64, window: &Window) -> anyhow::Result<Self> {
        apply(&store, &migrations(), &RetentionDays::default())
            .await
            .context("apply the migrations to the store that makes rows")?;
        drop_views(&store).await?;
        Ok(Self {
            store,
            rows,
            end: window.end_text(),
        })
    }

    /// Rows `first..first + n` as Native, in order of arrival.
    async fn batch(&self, first: u64, n: u64) -> anyhow::Result<Vec<u8>> {
        self.store.execute("TRUNCATE TABLE {logs}.http_logs").await?;
        for piece in (0..n).step_by(PIECE_ROWS) {
            let requests = SyntheticRequests {
                first: first + piece,
                rows: (n - piece).min(PIECE_ROWS as u64),
                total: self.rows,
                days: crate::DAYS,
                end: &self.end,
            };
            self.store.execute(&requests.sql()).await?;
        }
        let sql = self
            .store
            .names()
            .expand("SELECT * FROM {logs}.http_logs ORDER BY recv_ts SETTINGS max_block_size = 200000");
        let bytes = self
            .store
            .client()
            .query_raw(&sql)
            .fetch_bytes("Native")?
            .collect()
            .await?;
        Ok(bytes.to_vec())
    }
}

async fn drop_views(store: &Store) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = '{}' AND engine = 'MaterializedView'",
        store.names().processing()
    );
    for row in store.rows(&sql, &[]).await? {
        for view in row {
            store
                .execute(&format!("DROP VIEW {{processing}}.{view} SYNC"))
                .await?;
        }
    }
    Ok(())
}

/// Puts rows into the store that is measured.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    store: &'a Store,
    generator: &'a Generator,
    watch: &'a Watch,
    /// The next row to make.
    next: u64,
}

impl<'a> Load<'a> {
    pub(crate) fn new(store: &'a Store, generator: &'a Generator, watch: &'a Watch) -> Self {
        Self {
            store,
            generator,
            watch,
            next: 0,
        }
    }

    /// The floor: the same rows into a table without views, which is dropped again.
    pub(crate) async fn floor(&mut self) -> anyhow::Result<()> {
        self.store
            .execute("CREATE TABLE {logs}.bench_floor AS {logs}.http_logs")
            .await?;
        self.phase("bench_floor", 10_000, PHASE_ROWS, "no views (the floor)", None)
            .await?;
        self.phase("bench_floor", 100_000, PHASE_ROWS, "no views (the floor)", None)
            .await?;
        self.store.execute("DROP TABLE {logs}.bench_floor SYNC").await?;
        self.next = 0;
        Ok(())
    }

    /// Through all views, until `rows` are stored.
    pub(crate) async fn views(&mut self, rows: u64) -> anyhow::Result<()> {
        // The fixed cost alone: merges of such small parts come later and by the dozen.
        self.store.execute("SYSTEM STOP MERGES").await?;
        let before = self.watch.cpu_s()?;
        for _ in 0..N_SMALL {
            self.insert("http_logs", 100).await?;
        }
        let each_ms = (self.watch.cpu_s()? - before) * 1000.0 / N_SMALL as f64;
        self.store.execute("SYSTEM START MERGES").await?;
        println!(
            "  all views, batches of     100      {each_ms:>8.1} CPU ms an insert, merges apart      bar 60"
        );
        self.phase("http_logs", 10_000, PHASE_ROWS, "all views", Some(30_000))
            .await?;
        let rest = (rows - self.next) / 100_000 * 100_000;
        self.phase("http_logs", 100_000, rest, "all views", Some(90_000))
            .await
    }

    async fn phase(
        &mut self,
        table: &str,
        batch: u64,
        rows: u64,
        what: &str,
        bar: Option<u64>,
    ) -> anyhow::Result<()> {
        let (cpu, wall) = (self.watch.cpu_s()?, Instant::now());
        let mut inserting = Duration::ZERO;
        for _ in 0..rows / batch {
            inserting += self.insert(table, batch).await?;
        }
        let cpu = self.watch.cpu_s()? - cpu;
        let bar = bar.map_or_else(String::new, |bar| format!("bar {bar}"));
        println!(
            "  {what}, batches of {batch:>7}{:width$} {:>8.0} rows a CPU s  {:>7.0} a second of inserting  {bar}  ({rows} rows, {:.0} s)",
            "",
            rows as f64 / cpu,
            rows as f64 / inserting.as_secs_f64(),
            wall.elapsed().as_secs_f64(),
            width = 22_usize.saturating_sub(what.len()),
        );
        Ok(())
    }

    /// Makes a batch and inserts it; how long the insert took.
    async fn insert(&mut self, table: &str, n: u64) -> anyhow::Result<Duration> {
        let block = self.generator.batch(self.next, n).await?;
        let started = Instant::now();
        insert(self.store, table, block, self.next).await?;
        self.next += n;
        Ok(started.elapsed())
    }

    /// Waits until the store has merged what it wants to.
    pub(crate) async fn wait_for_merges(&self) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_mins(5);
        const QUIET: u32 = 25;
        let started = Instant::now();
        let mut quiet = 0;
        while quiet < QUIET && started.elapsed() < PATIENCE {
            let running = self.store.value("SELECT count() FROM system.merges", &[]).await?;
            quiet = if running.as_deref() == Some("0") {
                quiet + 1
            } else {
                0
            };
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Prints bytes a request.
    pub(crate) async fn sizes(&self) -> anyhow::Result<()> {
        let names = self.store.names();
        let sql = format!(
            "SELECT database || '.' || table, sum(rows), sum(bytes_on_disk), count() FROM system.parts
             WHERE active AND database IN ('{}', '{}') GROUP BY 1 HAVING sum(rows) > 0 ORDER BY 3 DESC",
            names.logs(),
            names.processing()
        );
        let tables = self.store.rows(&sql, &[]).await?;
        let number = |text: &str| text.parse::<f64>().context("a size is no number");
        let stored = tables
            .iter()
            .find(|row| row[0].ends_with(".http_logs"))
            .context("http_logs is empty")?;
        let n_requests = number(&stored[1])?;
        ensure!(n_requests > 0.0, "no request was stored");
        println!("\nbytes on disk for each request                  figure     bar");
        let mut total = 0.0;
        for table in &tables {
            let bytes = number(&table[2])?;
            total += bytes;
            let bar = if table[0].ends_with(".http_logs") {
                "55"
            } else {
                ""
            };
            println!(
                "  {:<42} {:>9.1} {bar:>7}  ({} rows, {} parts)",
                table[0],
                bytes / n_requests,
                table[1],
                table[3]
            );
        }
        println!("  {:<42} {:>9.1} {:>7}", "all tables", total / n_requests, 95);
        Ok(())
    }

    /// Begins to insert `rows` a second until the guard is dropped.
    pub(crate) async fn background(&mut self, rows: u64) -> anyhow::Result<Background> {
        // Made before: the store that makes rows would compete for the processor.
        let mut blocks = Vec::new();
        for _ in 0..20 {
            blocks.push(self.generator.batch(self.next, rows).await?);
            self.next += rows;
        }
        let ending = Arc::new(AtomicBool::new(false));
        let (stop, store) = (Arc::clone(&ending), self.store.clone());
        let mut token = self.next;
        let inserting = tokio::spawn(async move {
            let mut timer = tokio::time::interval(Duration::from_secs(1));
            for block in blocks.iter().cycle() {
                timer.tick().await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                token += rows;
                insert(&store, "http_logs", block.clone(), token).await?;
            }
            anyhow::Ok(())
        });
        Ok(Background { ending, inserting })
    }
}

/// Inserts that go on beside something else.
#[derive(Debug)]
pub(crate) struct Background {
    ending: Arc<AtomicBool>,
    inserting: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Background {
    /// Ends them and gives their first error.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        self.inserting.await.context("the inserts panicked")?
    }
}

async fn insert(store: &Store, table: &str, block: Vec<u8>, token: u64) -> anyhow::Result<()> {
    let sql = store
        .names()
        .expand(&format!("INSERT INTO {{logs}}.{table} FORMAT Native"));
    store
        .insert_block(&sql, block, Some(&format!("bench-{table}-{token}")))
        .await
        .with_context(|| format!("insert into {table}"))
}
