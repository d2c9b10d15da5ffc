//! Copies a table into another shape and swaps the two, for what ALTER cannot do: another sorting key, another partition key.
//!
//! The step's statement is `CREATE TABLE … {db}.table__rebuilt …` of the new shape. Then, in order:
//!
//! ```text
//! create     the new table; its comment names the migration, so a later try knows it
//! copy       partition by partition in small blocks, while writers go on; what differs afterwards is copied again
//! hold       the old table refuses inserts as one with too many parts does, and running inserts end
//! copy       the partitions that got rows meanwhile; all totals are equal now
//! swap       EXCHANGE; materialized views follow the name, and what was refused comes again
//! drop       the old table, if its total is still the one that was copied
//! ```
//!
//! Invariants: the swap comes only while no insert can reach the old table and its totals are those of the new one; the old
//! table is dropped only with that total. Totals are true under merges: see [`Totals`]. Every step may be cut off by kill -9
//! and is found by the next try: partitions that are equal are not copied again.
//!
//! Not here: the tokens of inserts that the old table remembered. A batch that was stored before the swap and is sent again
//! after it counts twice in the rebuilt table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::migration::Step;
use crate::names::quoted;
use crate::store::{StatementError, Store};

/// Ending of the name of the table under construction.
const SHADOW: &str = "__rebuilt";

/// Copies without holding the writers: the first takes all, the next what came during it, the third hardly anything.
const PASSES_BESIDE_WRITERS: u32 = 3;

/// Copies while they are held; a second finds nothing unless rows ran out of their retention during the first.
const PASSES_HELD: u32 = 3;

/// How long inserts that began before the hold may still run. Those of our writers take seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// Between two looks whether they still do.
const POLL: Duration = Duration::from_millis(50);

/// Blocks of a copy. A row with a `HyperLogLog` state has 2.6 kB in memory that no size of a block counts, so rows are
/// counted: 20 000 of them are 50 MB, and a part of that size is merged soon.
/// The time is the most that the embedded store allows.
const COPY_SETTINGS: &str = "max_threads = 1, max_insert_threads = 1, max_block_size = 2000, min_insert_block_size_rows = 20000, \
    min_insert_block_size_bytes = 33554432, optimize_on_insert = 0, deduplicate_insert = 'disable', max_execution_time = 86400";

/// Merged within each partition, as merges do.
const TOTAL_SETTINGS: &str = "do_not_merge_across_partitions_select_final = 1, max_execution_time = 86400";

/// Why a rebuild stopped.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The step is not of the form that a rebuild needs.
    #[error(
        "a rebuild's statement must begin with CREATE TABLE IF NOT EXISTS {{database}}.table__rebuilt{{local}}"
    )]
    Malformed,
    /// The two tables cannot be compared.
    #[error("{table} cannot be rebuilt so: {problem}")]
    Unlike {
        /// The table.
        table: String,
        /// What stands against it.
        problem: &'static str,
    },
    /// Inserts do not end.
    #[error("inserts into {table} that run since before it was held do not end; apply again")]
    Busy {
        /// The table.
        table: String,
    },
    /// Partitions differ however often they are copied.
    #[error(
        "{table} changes while nothing may be inserted: partitions {partitions} differ from their copies; apply again"
    )]
    Differs {
        /// The table.
        table: String,
        /// Their ids.
        partitions: String,
    },
    /// Rows reached the old table after it was copied.
    #[error(
        "{table} had {copied} rows when it was copied and {found} when it was swapped (the old rows are in {table}{SHADOW}, nothing was dropped)"
    )]
    Moved {
        /// The table.
        table: String,
        /// Rows copied.
        copied: u64,
        /// Rows found.
        found: u64,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Runs one rebuild, from wherever an earlier try left it.
///
/// # Errors
/// If the tables cannot be compared, inserts do not end or a statement fails; writers are let go on then.
pub async fn run(store: &Store, version: u32, step: &Step) -> Result<(), RebuildError> {
    let table = rebuilt_table(&step.sql).ok_or(RebuildError::Malformed)?;
    let rebuild = Rebuild {
        store,
        shadow: format!("{table}{SHADOW}{{local}}"),
        table: format!("{table}{{local}}"),
        mark: format!("rebuilt by migration {version:04}"),
    };
    if !rebuild.has_mark(&rebuild.table).await? {
        rebuild.create(step).await?;
        let shape = rebuild.shape().await?;
        rebuild.copy_until_equal(&shape, PASSES_BESIDE_WRITERS).await?;
        if let Err(error) = rebuild.swap(&shape).await {
            // The old table may be under either name; a table that is not held takes this too.
            if !rebuild.has_mark(&rebuild.table).await? {
                rebuild.let_go().await?;
            }
            return Err(error);
        }
    }
    // The names have changed sides: what is under the shadow's name is the old table, if it was not dropped yet.
    rebuild.drop_old().await
}

fn rebuilt_table(sql: &str) -> Option<&str> {
    let rest = sql.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
    let end = rest.find("{local}")?;
    rest[..end].strip_suffix(SHADOW)
}

/// One rebuild: names with placeholders.
struct Rebuild<'s> {
    store: &'s Store,
    table: String,
    shadow: String,
    /// Ending of the new table's comment.
    mark: String,
}

/// What both tables have in common, and how they are compared.
struct Shape {
    /// Columns to copy, comma between.
    columns: String,
    /// Rows and the sum of their hashes, over what merges leave as it is.
    total: String,
    /// Both are partitioned alike, so that one partition can be copied again.
    by_partition: bool,
}

/// Of each partition, rows and the sum of their hashes: the same whatever the order of the rows.
///
/// Of a table that merges rows they are those of the merged rows, and hash the key and the columns that add up, so that it
/// makes no difference what was merged already.
type Totals = BTreeMap<String, (u64, u64)>;

impl Rebuild<'_> {
    /// Makes the new table, unless an earlier try did.
    async fn create(&self, step: &Step) -> Result<(), RebuildError> {
        if self.has_mark(&self.shadow).await? {
            return Ok(());
        }
        self.execute(&format!(
            "DROP TABLE IF EXISTS {}{{on_cluster}} SYNC",
            self.shadow
        ))
        .await?;
        self.execute(&step.sql).await?;
        let old = self.comment(&self.table).await?.unwrap_or_default();
        self.set_comment(&self.shadow, &format!("{}; {}", without_record(&old), self.mark))
            .await
    }

    /// Copies what differs, at most so often. The partitions that differ still.
    async fn copy_until_equal(&self, shape: &Shape, passes: u32) -> Result<BTreeSet<String>, RebuildError> {
        for _ in 0..passes {
            let different = self.different(shape).await?;
            if different.is_empty() {
                return Ok(different);
            }
            self.copy(shape, &different).await?;
        }
        self.different(shape).await
    }

    async fn different(&self, shape: &Shape) -> Result<BTreeSet<String>, RebuildError> {
        let (old, new) = (
            self.totals(shape, &self.table).await?,
            self.totals(shape, &self.shadow).await?,
        );
        if !shape.by_partition && sum(&old) == sum(&new) {
            return Ok(BTreeSet::new());
        }
        let ids = old.keys().chain(new.keys());
        Ok(ids
            .filter(|id| !shape.by_partition || old.get(*id) != new.get(*id))
            .cloned()
            .collect())
    }

    async fn copy(&self, shape: &Shape, partitions: &BTreeSet<String>) -> Result<(), RebuildError> {
        let Self { table, shadow, .. } = self;
        if !shape.by_partition {
            self.execute(&format!("TRUNCATE TABLE {shadow}{{on_cluster}} SYNC"))
                .await?;
        }
        for id in partitions {
            let id = quoted(id);
            if shape.by_partition {
                self.execute(&format!(
                    "ALTER TABLE {shadow}{{on_cluster}} DROP PARTITION ID {id}"
                ))
                .await?;
            }
            self.execute(&format!(
                "INSERT INTO {shadow} ({columns}) SELECT {columns} FROM {table} WHERE _partition_id = {id} SETTINGS {COPY_SETTINGS}",
                columns = shape.columns
            ))
            .await?;
        }
        Ok(())
    }

    async fn totals(&self, shape: &Shape, table: &str) -> Result<Totals, RebuildError> {
        let rows = self
            .store
            .rows(&shape.total.replace("{table}", table), &[])
            .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| <[String; 3]>::try_from(row).ok())
            .filter_map(|[id, n_rows, hash]| Some((id, (n_rows.parse().ok()?, hash.parse().ok()?))))
            .collect())
    }

    /// Holds the writers, copies the rest and swaps.
    async fn swap(&self, shape: &Shape) -> Result<(), RebuildError> {
        self.hold().await?;
        let different = self.copy_until_equal(shape, PASSES_HELD).await?;
        if !different.is_empty() {
            return Err(RebuildError::Differs {
                table: self.store.names().expand(&self.table),
                partitions: different.into_iter().collect::<Vec<_>>().join(", "),
            });
        }
        let total = sum(&self.totals(shape, &self.table).await?);
        let comment = self.comment(&self.table).await?.unwrap_or_default();
        self.set_comment(
            &self.table,
            &format!("{}; {}", without_record(&comment), record(total)),
        )
        .await?;
        self.execute(&format!(
            "EXCHANGE TABLES {} AND {}{{on_cluster}}",
            self.table, self.shadow
        ))
        .await
    }

    /// The old table takes no insert from here on: as one with too many parts it says so, and writers come again.
    async fn hold(&self) -> Result<(), RebuildError> {
        self.execute(&format!(
            "ALTER TABLE {}{{on_cluster}} MODIFY SETTING max_parts_in_total = 0",
            self.table
        ))
        .await?;
        let held = Instant::now();
        let names = self.store.names();
        loop {
            let since_s = held.elapsed().as_secs_f64();
            let running = self
                .store
                .value(
                    "SELECT count() FROM system.processes
                     WHERE query_kind = 'Insert' AND elapsed > {since_s:Float64}
                         AND (multiSearchAny(query, [{logs_database:String}, {processing_database:String}])
                             OR current_database IN ({logs_database:String}, {processing_database:String}))",
                    &[
                        ("since_s", &since_s.to_string()),
                        ("logs_database", names.logs()),
                        ("processing_database", names.processing()),
                    ],
                )
                .await?;
            if running.as_deref() == Some("0") {
                return Ok(());
            }
            if held.elapsed() > PATIENCE {
                return Err(RebuildError::Busy {
                    table: self.store.names().expand(&self.table),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn let_go(&self) -> Result<(), RebuildError> {
        self.execute(&format!(
            "ALTER TABLE {}{{on_cluster}} RESET SETTING max_parts_in_total",
            self.table
        ))
        .await
    }

    async fn drop_old(&self) -> Result<(), RebuildError> {
        let Some(comment) = self.comment(&self.shadow).await? else {
            return Ok(());
        };
        // Without a record nothing says that its rows were copied.
        let (copied, copied_hash) = recorded(&comment).unwrap_or_default();
        let shape = self.shape().await?;
        let (found, hash) = sum(&self.totals(&shape, &self.shadow).await?);
        // Fewer are those whose retention ran out since.
        if found > copied || (found == copied && hash != copied_hash) {
            return Err(RebuildError::Moved {
                table: self.store.names().expand(&self.table),
                copied,
                found,
            });
        }
        self.execute(&format!(
            "DROP TABLE IF EXISTS {}{{on_cluster}} SYNC",
            self.shadow
        ))
        .await
    }

    /// What the two tables have in common; the same whichever of them has which name.
    async fn shape(&self) -> Result<Shape, RebuildError> {
        let unlike = |problem| RebuildError::Unlike {
            table: self.store.names().expand(&self.table),
            problem,
        };
        let (one, other) = (self.facts(&self.table).await?, self.facts(&self.shadow).await?);
        if one.engine != other.engine {
            return Err(unlike("its engine changes"));
        }
        let by_partition = one.partition_key == other.partition_key;
        let common: BTreeMap<&str, &Column> = one
            .columns
            .iter()
            .filter_map(|(name, column)| {
                other
                    .columns
                    .contains_key(name)
                    .then_some((name.as_str(), column))
            })
            .collect();
        let is_alike = |name: &str| {
            let type_of = |facts: &Facts| {
                facts
                    .columns
                    .get(name)
                    .map(|column| bare(&column.type_name).to_owned())
            };
            type_of(&one) == type_of(&other)
        };
        let engine = one.engine.as_str();
        let hashed: Vec<&str> = if engine == "MergeTree" {
            common.keys().copied().filter(|name| is_alike(name)).collect()
        } else {
            // What merges make of rows depends on which rows have one key.
            if one.key() != other.key() {
                return Err(unlike(
                    "it merges rows, and the columns of its sorting key change",
                ));
            }
            if !by_partition {
                return Err(unlike(
                    "it merges rows within partitions, and its partition key changes",
                ));
            }
            let adds_up = |(name, column): &(&&str, &&Column)| match engine {
                "AggregatingMergeTree" => is_order_free(&column.type_name),
                "SummingMergeTree" => is_integer(&column.type_name),
                "ReplacingMergeTree" => one.version.as_deref() == Some(**name),
                _ => false,
            };
            let values: Vec<&str> = common
                .iter()
                .filter(|(name, column)| !column.in_key && is_alike(name))
                .filter(|pair| adds_up(pair))
                .map(|(name, _)| *name)
                .collect();
            if values.is_empty() {
                return Err(unlike(
                    "it merges rows and has no column that says whether one was added",
                ));
            }
            one.key().into_iter().chain(values).collect()
        };
        let quote = |names: &[&str]| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        let last = if engine == "MergeTree" { "" } else { " FINAL" };
        Ok(Shape {
            columns: quote(&common.keys().copied().collect::<Vec<_>>()),
            total: format!(
                "SELECT _partition_id, count(), sum(cityHash64({})) FROM {{table}}{last} GROUP BY _partition_id SETTINGS {TOTAL_SETTINGS}",
                quote(&hashed)
            ),
            by_partition,
        })
    }

    async fn facts(&self, table: &str) -> Result<Facts, RebuildError> {
        let (database, name) = self.split(table);
        let params = [("database", database.as_str()), ("name", name.as_str())];
        let of_table = self
            .store
            .rows(
                "SELECT replaceOne(engine, 'Replicated', ''), partition_key,
                     extract(engine_full, 'ReplacingMergeTree[(](?:[^)]*, )?([A-Za-z0-9_]+)[)]')
                 FROM system.tables WHERE database = {database:String} AND name = {name:String}",
                &params,
            )
            .await?;
        let of_columns = self
            .store
            .rows(
                "SELECT name, type, toString(is_in_sorting_key) FROM system.columns
                 WHERE database = {database:String} AND table = {name:String} AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')",
                &params,
            )
            .await?;
        let mut facts = Facts::default();
        if let Some([engine, partition_key, version]) = of_table
            .into_iter()
            .next()
            .and_then(|row| <[String; 3]>::try_from(row).ok())
        {
            facts.engine = engine;
            facts.partition_key = partition_key;
            facts.version = Some(version).filter(|version| !version.is_empty());
        }
        for row in of_columns {
            if let Ok([name, type_name, in_key]) = <[String; 3]>::try_from(row) {
                let in_key = in_key == "1";
                facts.columns.insert(name, Column { type_name, in_key });
            }
        }
        Ok(facts)
    }

    async fn has_mark(&self, table: &str) -> Result<bool, RebuildError> {
        let comment = self.comment(table).await?;
        Ok(comment.is_some_and(|comment| comment.ends_with(&self.mark)))
    }

    /// The table's comment; none if there is no such table.
    async fn comment(&self, table: &str) -> Result<Option<String>, RebuildError> {
        let (database, name) = self.split(table);
        let sql =
            "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}";
        Ok(self
            .store
            .value(sql, &[("database", &database), ("name", &name)])
            .await?)
    }

    async fn set_comment(&self, table: &str, comment: &str) -> Result<(), RebuildError> {
        self.execute(&format!(
            "ALTER TABLE {table}{{on_cluster}} MODIFY COMMENT {}",
            quoted(comment.trim_start_matches("; "))
        ))
        .await
    }

    async fn execute(&self, sql: &str) -> Result<(), RebuildError> {
        Ok(self.store.execute(sql).await?)
    }

    fn split(&self, table: &str) -> (String, String) {
        let expanded = self.store.names().expand(table);
        let (database, name) = expanded.split_once('.').unwrap_or(("", &expanded));
        (database.to_owned(), name.to_owned())
    }
}

/// What a table says of itself.
#[derive(Default)]
struct Facts {
    /// Engine, replicated or not.
    engine: String,
    partition_key: String,
    /// Column by which a `ReplacingMergeTree` tells the newest row.
    version: Option<String>,
    /// Stored columns by name.
    columns: BTreeMap<String, Column>,
}

struct Column {
    type_name: String,
    in_key: bool,
}

impl Facts {
    /// Columns of the sorting key, by name.
    fn key(&self) -> Vec<&str> {
        let in_key = self.columns.iter().filter(|(_, column)| column.in_key);
        in_key.map(|(name, _)| name.as_str()).collect()
    }
}

/// The type without its dictionary, which changes no hash.
fn bare(type_name: &str) -> &str {
    type_name
        .strip_prefix("LowCardinality(")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(type_name)
}

/// Whether merging values of the type gives the same whatever their order; floats do not.
fn is_order_free(type_name: &str) -> bool {
    let Some((function, of)) = type_name
        .strip_prefix("SimpleAggregateFunction(")
        .and_then(|rest| rest.split_once(", "))
    else {
        return false;
    };
    match function {
        "sum" => is_integer(of),
        "min" | "max" | "groupBitOr" | "groupBitAnd" | "groupBitXor" => true,
        _ => false,
    }
}

fn is_integer(type_name: &str) -> bool {
    type_name.starts_with("UInt") || type_name.starts_with("Int")
}

/// Rows and hashes of all partitions.
fn sum(totals: &Totals) -> (u64, u64) {
    totals.values().fold((0, 0), |(rows, hash), (n, more)| {
        (rows + n, u64::wrapping_add(hash, *more))
    })
}

const RECORD: &str = "copied: ";

/// Ending of the old table's comment: what was in it when it was swapped.
fn record((n_rows, hash): (u64, u64)) -> String {
    format!("{RECORD}{n_rows} rows, total {hash}")
}

fn recorded(comment: &str) -> Option<(u64, u64)> {
    let (_, record) = comment.rsplit_once(RECORD)?;
    let (n_rows, hash) = record.split_once(" rows, total ")?;
    Some((n_rows.parse().ok()?, hash.parse().ok()?))
}

fn without_record(comment: &str) -> &str {
    let before = comment.rsplit_once(RECORD).map_or(comment, |(before, _)| before);
    before.trim_end_matches("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_read_from_the_comment() {
        let comment = format!("one row; a day; {}", record((7, u64::MAX)));
        assert_eq!(recorded(&comment), Some((7, u64::MAX)));
        assert_eq!(without_record(&comment), "one row; a day");
        assert_eq!(recorded("one row; a day"), None);
        assert_eq!(recorded(&record((0, 1))), Some((0, 1)));
    }

    #[test]
    fn only_what_adds_up_in_any_order_is_compared() {
        for (type_name, expected) in [
            ("SimpleAggregateFunction(sum, UInt64)", true),
            ("SimpleAggregateFunction(max, DateTime64(6, 'UTC'))", true),
            ("SimpleAggregateFunction(sum, Float64)", false),
            ("SimpleAggregateFunction(any, String)", false),
            ("AggregateFunction(uniqHLL12, IPv6)", false),
        ] {
            assert_eq!(is_order_free(type_name), expected, "{type_name}");
        }
    }
}
