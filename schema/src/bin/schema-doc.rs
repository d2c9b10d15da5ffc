//! Prints the document of the database schema from a live store, or writes it to `docs/database-schema.md`.

use anyhow::Context as _;
use clap::Parser;
use ja4_schema::{Names, RetentionDays, Store, apply, doc, migrations};

/// Generates `docs/database-schema.md`: migrates a scratch pair of databases and describes it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of a ClickHouse server or of `ja4-clickhouse`.
    #[arg(long, env = "CLICKHOUSE_URL", default_value = "http://127.0.0.1:8123")]
    url: String,
    /// Write the file instead of printing it.
    #[arg(long)]
    write: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let store = Store::new(&args.url, Names::new("ja4_doc_logs", "ja4_doc_processing")?);
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
