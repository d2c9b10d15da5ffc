//! Compares what is in the databases with what the migrations make, and names the first difference.
//!
//! Both sides are read from the server's own tables after the server wrote them its own way: the migrations are applied to a
//! scratch pair of databases, so that nothing here has to understand SQL.

use std::collections::BTreeMap;

use crate::store::{StatementError, Store};

/// One object: its facts by name, such as `column ts type`.
type Facts = BTreeMap<String, String>;

/// Objects of both databases by name, `{logs}.http_logs`.
pub type Inventory = BTreeMap<String, Facts>;

/// The first difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Object, as `{logs}.http_logs` with the real database name.
    pub object: String,
    /// What differs, such as `column ts type`.
    pub what: String,
    /// As the migrations make it; none if they make no such thing.
    pub expected: Option<String>,
    /// As it is; none if it is not there.
    pub found: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        write!(
            f,
            "{}: {} should be `{}` and is `{}`",
            self.object,
            self.what,
            side(&self.expected),
            side(&self.found)
        )
    }
}

/// Reads tables, views, dictionaries and columns of the store's two databases.
///
/// # Errors
/// If a query fails.
pub async fn inventory(store: &Store) -> Result<Inventory, StatementError> {
    let names = store.names();
    let databases = [
        ("logs_database", names.logs()),
        ("processing_database", names.processing()),
    ];
    let tables = store
        .rows(
            "SELECT concat(if(database = {logs_database:String}, '<logs>.', '<processing>.'), name),
                 engine, partition_key, sorting_key, primary_key, as_select, engine_full, create_table_query, comment
             FROM system.tables
             WHERE database IN ({logs_database:String}, {processing_database:String})
                 AND name NOT IN ('schema_lock', 'schema_steps') AND NOT startsWith(name, '.inner')",
            &databases,
        )
        .await?;
    let columns = store
        .rows(
            "SELECT concat(if(database = {logs_database:String}, '<logs>.', '<processing>.'), table),
                 name, type, default_kind, default_expression, compression_codec, comment, toString(position)
             FROM system.columns
             WHERE database IN ({logs_database:String}, {processing_database:String})",
            &databases,
        )
        .await?;
    let mut inventory = Inventory::new();
    for row in tables {
        let Ok(
            [
                object,
                engine,
                partition,
                sorting,
                primary,
                select,
                engine_full,
                create,
                comment,
            ],
        ) = <[String; 9]>::try_from(row)
        else {
            continue;
        };
        let mut facts = Facts::new();
        facts.insert("engine".to_owned(), engine.clone());
        facts.insert("partition key".to_owned(), partition);
        facts.insert("sorting key".to_owned(), sorting);
        facts.insert("primary key".to_owned(), primary);
        facts.insert("query".to_owned(), placeholders(&select, store));
        facts.insert("settings".to_owned(), settings(&engine_full));
        facts.insert("comment".to_owned(), comment);
        if engine == "Dictionary" || engine == "MaterializedView" {
            facts.insert("definition".to_owned(), placeholders(&create, store));
        }
        inventory.insert(object, facts);
    }
    for row in columns {
        let Ok([object, name, type_name, kind, default, codec, comment, position]) =
            <[String; 8]>::try_from(row)
        else {
            continue;
        };
        if let Some(facts) = inventory.get_mut(&object) {
            let mut add = |what: &str, value: String| facts.insert(format!("column {name} {what}"), value);
            add("type", type_name);
            add(
                "default",
                format!("{kind} {}", placeholders(&default, store))
                    .trim()
                    .to_owned(),
            );
            add("codec", codec);
            add("comment", comment);
            add("position", position);
        }
    }
    Ok(inventory)
}

/// Database names replaced by what stands for them, so that two pairs of databases compare.
fn placeholders(sql: &str, store: &Store) -> String {
    // The longer name first: one may begin with the other.
    let mut names = [
        (store.names().logs(), "<logs>"),
        (store.names().processing(), "<processing>"),
    ];
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    names.iter().fold(sql.to_owned(), |sql, (name, mark)| {
        sql.replace(&format!("{name}."), &format!("{mark}."))
            .replace(&format!("'{name}'"), &format!("'{mark}'"))
    })
}

/// What follows SETTINGS in the engine's clause. Retention is not compared: it is reconciled from a setting.
fn settings(engine_full: &str) -> String {
    engine_full
        .split_once(" SETTINGS ")
        .map_or("", |(_, settings)| settings)
        .to_owned()
}

/// The first difference by name, `expected` being what the migrations make.
pub fn first_difference(expected: &Inventory, found: &Inventory, store: &Store) -> Option<Difference> {
    let real = |object: &str| {
        object
            .replace("<logs>", store.names().logs())
            .replace("<processing>", store.names().processing())
    };
    for (object, expected_facts) in expected {
        let Some(found_facts) = found.get(object) else {
            return Some(Difference {
                object: real(object),
                what: "the object".to_owned(),
                expected: expected_facts.get("engine").cloned(),
                found: None,
            });
        };
        let differs = |what: &&String| expected_facts.get(*what) != found_facts.get(*what);
        if let Some(what) = expected_facts.keys().chain(found_facts.keys()).find(differs) {
            return Some(Difference {
                object: real(object),
                what: what.clone(),
                expected: expected_facts.get(what).cloned(),
                found: found_facts.get(what).cloned(),
            });
        }
    }
    let extra = found.iter().find(|(object, _)| !expected.contains_key(*object));
    extra.map(|(object, facts)| Difference {
        object: real(object),
        what: "the object".to_owned(),
        expected: None,
        found: facts.get("engine").cloned(),
    })
}
