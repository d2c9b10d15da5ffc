//! Prints the document of the database schema from a live store, or writes it to `docs/database-schema.md`.

use anyhow::Context as _;
use clap::Parser;
use ja4_schema::{Names, RetentionDays, Store, apply, doc, migrations};
use store_process::StoreProcess;

#[path = "schema-bench/store_process.rs"]
mod store_process;

/// Generates `docs/database-schema.md`: migrates a scratch pair of databases and describes it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of a ClickHouse server; without it an `ja4-clickhouse` of the same build is started for it.
    #[arg(long, env = "CLICKHOUSE_URL")]
    url: Option<String>,
    /// Write the file instead of printing it.
    #[arg(long)]
    write: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let names = Names::new("ja4_doc_logs", "ja4_doc_processing")?;
    let mut process = None;
    let store = if let Some(url) = &args.url {
        Store::new(url, names)
    } else {
        let program = std::env::current_exe()
            .context("find this program")?
            .with_file_name("ja4-clickhouse");
        let folder = std::env::temp_dir().join(format!("ja4-schema-doc-{}", std::process::id()));
        let started = StoreProcess::start(&program, folder)?;
        Store::with_client(process.insert(started).client(), names)
    };
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .context("migrate the scratch databases")?;
    let text = doc::database_schema(&store, &migrations())
        .await
        .context("describe the scratch databases")?;
    store.execute("DROP DATABASE {logs} SYNC").await?;
    store.execute("DROP DATABASE {processing} SYNC").await?;
    if args.write {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/database-schema.md");
        std::fs::write(path, text).with_context(|| format!("write {path}"))?;
    } else {
        use std::io::Write as _;
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}
