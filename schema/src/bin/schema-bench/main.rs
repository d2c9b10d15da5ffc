//! Measures the schema on a real store: inserts through all materialized views, query times, memory, bytes per row.
//!
//! Two stores run: one is measured, the other makes the rows, so that the CPU seconds of the first are those of inserts and
//! merges alone. Rows go in as Native blocks over HTTP, in order of arrival. Bars are those of the design for two cores.
#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod load;
mod machine;
mod store_process;
mod timing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use ja4_schema::{Names, RetentionDays, Store, apply, migrations};

use load::{Generator, Load};
use machine::Watch;
use store_process::StoreProcess;
use timing::Window;

/// Measures inserts, queries, memory and disk of the schema on an `ja4-clickhouse` of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Requests stored before the queries are timed.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Folder for the data, about 200 bytes a row; removed at the end. Default: the system's temporary folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The program that is measured. Default: `ja4-clickhouse` beside this one.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Load, say where the store is, and wait for Ctrl-C instead of timing: to try queries on its rows.
    #[arg(long)]
    stay: bool,
}

/// Days over which the rows are spread.
const DAYS: u32 = 7;

/// Requests a second while queries are timed again.
const BACKGROUND_ROWS: u64 = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let rows = args.rows.max(1_000_000);
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .context("find this program")?
            .with_file_name("ja4-clickhouse"),
    };
    let folder = args
        .data
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("ja4-schema-bench-{}", std::process::id()));
    println!("machine            {}", machine::describe()?);
    println!("rows               {rows} over {DAYS} days");

    let _folder = RemovedAtTheEnd(folder.clone());
    let measured = StoreProcess::start(&program, folder.join("measured"))?;
    let store = Store::with_client(measured.client(), Names::default());
    let watch = Watch::start(measured.pid());
    store.execute("SELECT 1").await?;
    let after_boot = watch.anonymous_mb()?;
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .context("apply the migrations")?;
    let maker = StoreProcess::start(&program, folder.join("maker"))?;
    let mut window = Window::ending_now(&store).await?;
    let generator = Generator::new(
        Store::with_client(maker.client(), Names::default()),
        rows,
        &window,
    )
    .await?;

    println!("\ninserts, Native over HTTP; CPU seconds of the store with its merges");
    let mut load = Load::new(&store, &generator, &watch);
    load.floor().await?;
    load.views(rows).await?;
    let idle = watch.cpu_s()?;
    load.wait_for_merges().await?;
    println!(
        "  merges afterwards                  {:>8.1} CPU s",
        watch.cpu_s()? - idle
    );
    load.sizes().await?;

    println!("\nqueries, milliseconds from request to the answer's last byte, RowBinary over HTTP");
    window.find_client(&store).await?;
    timing::detections(&store, &window).await?;
    if args.stay {
        let (url, token) = measured.access();
        println!("\nX-ClickHouse-Key: {token}\n{url} has the rows until Ctrl-C");
        return tokio::signal::ctrl_c().await.context("wait for Ctrl-C");
    }
    let (loaded, before) = (watch.anonymous_mb()?, watch.peak_mb());
    timing::queries(&store, &window, &watch, None).await?;
    let steady = watch.anonymous_mb()?;
    timing::features(&store, &window, &watch).await?;
    let background = load.background(BACKGROUND_ROWS).await?;
    timing::queries(&store, &window, &watch, Some(background)).await?;

    println!("\nanonymous memory of the store, MB          figure     bar");
    println!(
        "  after boot                               {after_boot:>8.0} {:>7}",
        250
    );
    println!("  right after the load                     {loaded:>8.0}");
    println!(
        "  steady, after the queries                {steady:>8.0} {:>7}",
        550
    );
    println!(
        "  peak of the load                         {before:>8.0} {:>7}",
        1100
    );
    println!(
        "  peak of all                              {:>8.0} {:>7}",
        watch.peak_mb(),
        1100
    );
    Ok(())
}

/// The folder of the stores' folders, which are gone before it.
struct RemovedAtTheEnd(PathBuf);

impl Drop for RemovedAtTheEnd {
    fn drop(&mut self) {
        // What is left is in the system's temporary files.
        let _removed = std::fs::remove_dir(&self.0);
    }
}

/// Between two looks at what ends by itself.
const POLL: Duration = Duration::from_millis(200);
