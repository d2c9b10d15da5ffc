//! `ja4 schema`: plans, applies, shows and verifies migrations; thin over the `ja4-schema` library.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ja4_common::clickhouse::StoreConfig;
use ja4_common::job::{self, DeadlineExceeded, Ending};
use ja4_schema::{Names, RetentionDays, Store};

use crate::WrongUse;

/// Where the store is and what to do with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// What `apply` would do, statement by statement; changes nothing.
    Plan(Target),
    /// Applies what is missing, under a lock; goes on where an earlier one was interrupted.
    Apply {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        job: JobOptions,
    },
    /// What the store records of migrations; changes nothing.
    Status(Target),
    /// Compares the store with the migrations and proves its views with marked rows in scratch databases.
    Verify(Target),
}

/// What matters when nobody watches: in a Job of a cluster.
#[derive(Debug, clap::Args)]
struct JobOptions {
    /// Longest time, such as 100s; the next run goes on where this one ended.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// File for the last word, one JSON object of at most 4000 bytes, such as /dev/termination-log.
    #[arg(long, value_name = "FILE")]
    termination_message: Option<PathBuf>,
}

/// A ClickHouse, as whom, and the names of our databases on it.
#[derive(Debug, clap::Args)]
struct Target {
    /// Address of the HTTP interface, such as <http://127.0.0.1:8123>.
    #[arg(long)]
    url: String,
    /// Certificates (PEM) of whom to believe that an https address is the store; default: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// User.
    #[arg(long, default_value = "migrator")]
    user: String,
    /// File with the user's token or password.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Database of what happened.
    #[arg(long, value_name = "NAME", default_value = "ja4_logs")]
    logs_database: String,
    /// Database of what was made of it.
    #[arg(long, value_name = "NAME", default_value = "ja4_processing")]
    processing_database: String,
    /// Make replicated tables on this cluster.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Days to keep a table's rows, such as `http_logs_days=30`; 0 keeps them for ever.
    #[arg(long, value_name = "SETTING=DAYS", value_parser = parse_retention)]
    retention: Vec<(String, u32)>,
}

fn parse_retention(text: &str) -> Result<(String, u32), String> {
    let (setting, days) = text
        .split_once('=')
        .ok_or("expected SETTING=DAYS, such as http_logs_days=30")?;
    let days = days
        .parse()
        .map_err(|error| format!("{days:?} is no number of days: {error}"))?;
    Ok((setting.to_owned(), days))
}

impl Target {
    fn connect(&self) -> anyhow::Result<Store> {
        let config = StoreConfig {
            url: self.url.clone(),
            ca_file: self.ca_file.clone(),
            user: self.user.clone(),
            token_file: self.token_file.clone(),
            logs_database: self.logs_database.clone(),
            processing_database: self.processing_database.clone(),
        };
        connect(&config, self.cluster.as_deref())
    }

    fn retention(&self) -> RetentionDays {
        RetentionDays(self.retention.iter().cloned().collect())
    }
}

/// Runs one action; `Ok(false)` when `verify` found a difference.
///
/// # Errors
/// When the store cannot be reached, refuses a statement, or its records do not fit this build.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let runtime = runtime()?;
    match &options.action {
        Action::Plan(target) => runtime.block_on(plan(target))?,
        Action::Apply { target, job } => {
            let applied = apply_in_time(&runtime, target, job.deadline);
            if let Some(path) = &job.termination_message {
                // The work is done or not whether it can be said or not.
                if let Err(error) = ending(&applied).write(path) {
                    eprintln!(
                        "ja4: the last word cannot be written to {}: {error}",
                        path.display()
                    );
                }
            }
            let applied = applied?;
            for step in &applied.steps {
                println!("applied {step}");
            }
            for change in &applied.retention {
                println!("retention of {} set to {} days", change.table, change.days);
            }
            if applied == ja4_schema::Applied::default() {
                println!("nothing to do");
            }
        }
        Action::Status(target) => runtime.block_on(status(target))?,
        Action::Verify(target) => {
            let store = target.connect()?;
            let verified = runtime.block_on(ja4_schema::verify(&store, &ja4_schema::migrations()))?;
            println!("{} objects are as the migrations make them", verified.n_objects);
            for value in &verified.values {
                println!("asserted {value}");
            }
        }
    }
    Ok(true)
}

async fn plan(target: &Target) -> anyhow::Result<()> {
    let plan = ja4_schema::plan(&target.connect()?, &ja4_schema::migrations(), &target.retention()).await?;
    for step in &plan.steps {
        let resumed = if step.resumed { " (resumed)" } else { "" };
        println!("-- {}/{}{resumed}", step.migration, step.step);
        for statement in &step.statements {
            println!("{statement};");
        }
    }
    for change in &plan.retention {
        println!(
            "-- retention of {}: {} days\n{};",
            change.table, change.days, change.statement
        );
    }
    if plan.steps.is_empty() && plan.retention.is_empty() {
        println!("-- nothing to do");
    }
    Ok(())
}

async fn status(target: &Target) -> anyhow::Result<()> {
    let status = ja4_schema::status(&target.connect()?).await?;
    for migration in &status.migrations {
        let state = if migration.is_complete() {
            "done".to_owned()
        } else {
            format!(
                "{} of {} steps done",
                migration.steps_done.len(),
                migration.n_steps
            )
        };
        println!(
            "{:04}_{}  {state}  {:.12}  writers from {}  {} UTC",
            migration.version, migration.name, migration.checksum, migration.min_writer, migration.last_at
        );
    }
    if status.migrations.is_empty() {
        println!("no migration was applied");
    }
    Ok(())
}

/// A store from its settings; wrong names and unreadable tokens are wrong use.
///
/// # Errors
/// As said.
pub(crate) fn connect(config: &StoreConfig, cluster: Option<&str>) -> anyhow::Result<Store> {
    let wrong = |error: &(dyn std::error::Error + 'static)| WrongUse(ja4_common::exit::chain(error));
    if !(config.url.starts_with("http://") || config.url.starts_with("https://")) {
        bail!(WrongUse(format!(
            "--url {}: expected an address such as http://127.0.0.1:8123",
            config.url
        )));
    }
    let names = Names::new(&config.logs_database, &config.processing_database);
    let mut names = names.map_err(|error| wrong(&error))?;
    if let Some(cluster) = cluster {
        names = names.on_cluster(cluster).map_err(|error| wrong(&error))?;
    }
    let client = config.client().map_err(|error| wrong(&error))?;
    Ok(Store::with_client(client, names))
}

/// What the store's client runs on.
///
/// # Errors
/// When the operating system has no means for it.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("could not make a runtime for the store's client")
}

/// Applies what is missing with the default retention; how many steps that were.
///
/// # Errors
/// When a migration fails, with what to do.
pub(crate) fn apply(runtime: &tokio::runtime::Runtime, store: &Store) -> anyhow::Result<usize> {
    let applied = runtime.block_on(ja4_schema::apply(
        store,
        &ja4_schema::migrations(),
        &RetentionDays::default(),
    ));
    Ok(applied.context(NOT_APPLIED)?.steps.len())
}

const NOT_APPLIED: &str = "the store's schema could not be applied";

/// Exit status 1: another try may do. Wrong use (2): none will, the migrations or the setting must change first.
fn apply_in_time(
    runtime: &tokio::runtime::Runtime,
    target: &Target,
    deadline: Option<Duration>,
) -> anyhow::Result<ja4_schema::Applied> {
    let (store, retention) = (target.connect()?, target.retention());
    let migrations = ja4_schema::migrations();
    let applied = runtime.block_on(job::within(deadline, async {
        Ok::<_, DeadlineExceeded>(ja4_schema::apply(&store, &migrations, &retention).await)
    }));
    match applied.context(NOT_APPLIED)? {
        Ok(applied) => Ok(applied),
        Err(error) if error.is_final() => bail!(WrongUse(ja4_common::exit::chain(&error))),
        Err(error) => Err(error).context(NOT_APPLIED),
    }
}

fn ending(applied: &anyhow::Result<ja4_schema::Applied>) -> Ending {
    const PROGRAM: &str = "ja4 schema apply";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    match applied {
        Ok(applied) => Ending::done(
            PROGRAM,
            VERSION,
            serde_json::json!({
                "steps": applied.steps.len(),
                "retention": applied.retention.len(),
                // What a pipeline must not go back behind.
                "min_writer": ja4_schema::migrations().last().map(|newest| newest.min_writer.clone()),
            }),
        ),
        Err(error) => {
            let otherwise = if error.is::<WrongUse>() {
                "Refused"
            } else {
                job::FAILED
            };
            Ending::failed(PROGRAM, VERSION, error.as_ref(), otherwise)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_a_setting_and_days() {
        assert_eq!(
            parse_retention("http_logs_days=30"),
            Ok(("http_logs_days".to_owned(), 30))
        );
        assert!(
            parse_retention("http_logs_days")
                .unwrap_err()
                .contains("SETTING=DAYS")
        );
        assert!(
            parse_retention("http_logs_days=many")
                .unwrap_err()
                .contains("no number of days")
        );
    }

    #[test]
    fn a_wrong_address_or_name_is_wrong_use() {
        let check = |config: StoreConfig, part: &str| {
            let error = connect(&config, None).unwrap_err();
            assert!(error.is::<WrongUse>(), "{error:#}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(
            StoreConfig {
                url: "127.0.0.1:8123".to_owned(),
                ..StoreConfig::default()
            },
            "http://127.0.0.1:8123",
        );
        check(
            StoreConfig {
                logs_database: "a b".to_owned(),
                ..StoreConfig::default()
            },
            "letters, digits",
        );
        let gone = Some(PathBuf::from("/nonexistent/token"));
        check(
            StoreConfig {
                token_file: gone,
                ..StoreConfig::default()
            },
            "/nonexistent/token",
        );
    }
}
