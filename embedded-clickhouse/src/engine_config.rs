//! Writes the engine's `config.xml` and `users.xml` from the process's settings.
//!
//! Pure: settings in, text out. The engine reads XML only, and without an explicit file it would load whatever
//! `config.xml` lies in the working directory. Memory figures are those measured for a 1 GiB store on two cores.

use std::fmt::Write as _;
use std::path::Path;

/// What the engine may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLimits {
    /// Bytes of memory for everything; queries beyond it fail, the process lives.
    pub memory_max_bytes: u64,
    /// Bytes of memory for one query.
    pub query_memory_max_bytes: u64,
    /// Threads for one query; 0 takes one a core.
    pub query_threads: u32,
    /// Seconds that a query may run.
    pub query_time_max_s: u64,
    /// Threads for merges.
    pub background_threads: u32,
    /// Megabytes of mark cache.
    pub mark_cache_bytes: u64,
    /// Bytes of primary index cache.
    pub primary_index_cache_bytes: u64,
    /// Bytes of the marks of skipping indexes.
    pub index_mark_cache_bytes: u64,
}

/// Free memory that each thread of a query must find: the engine's default of 1 GiB silently runs every query on
/// one thread under a 1 GiB limit (measured).
const MIN_FREE_MEMORY_PER_THREAD: u64 = 64 << 20;

/// How long a client may let one statement run: a rebuild of a large table takes hours.
const CLIENT_TIME_MAX_S: u64 = 86_400;

/// Rights of the engine's only user. What is missing is meant: FILE, URL, REMOTE, S3, users, named collections.
/// Who may do what among the tokens is decided before the engine sees a statement (`access`).
const GRANTS: &str = "GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE DICTIONARY, CREATE TEMPORARY TABLE, \
    CREATE FUNCTION, DROP, TRUNCATE, OPTIMIZE, KILL QUERY, SYSTEM, dictGet, SHOW, CHECK, UNDROP TABLE ON *.*";

/// Engines of tables that a statement may create. None of them reaches outside the data directory.
const TABLE_ENGINES: &[&str] = &[
    "MergeTree",
    "ReplacingMergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "CollapsingMergeTree",
    "VersionedCollapsingMergeTree",
    "CoalescingMergeTree",
    "Memory",
    "Null",
    "Log",
    "TinyLog",
    "StripeLog",
    "Set",
    "Join",
    "Buffer",
    "Merge",
    "View",
    "MaterializedView",
    "Dictionary",
];

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// `config.xml`; `users_file` is where [`users_xml`] will lie.
pub fn config_xml(limits: &EngineLimits, users_file: &Path) -> String {
    let users = escape(&users_file.to_string_lossy());
    let mut xml = String::from("<clickhouse>\n");
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(xml, "    <{name}>{value}</{name}>").expect("a String takes everything");
    };
    add("users_config", &users);
    add("max_server_memory_usage", &limits.memory_max_bytes);
    add("mark_cache_size", &limits.mark_cache_bytes);
    add("primary_index_cache_size", &limits.primary_index_cache_bytes);
    add("index_mark_cache_size", &limits.index_mark_cache_bytes);
    // Times are UTC wherever the machine stands.
    add("timezone", &"UTC");
    add("uncompressed_cache_size", &0);
    add("index_uncompressed_cache_size", &0);
    add("mmap_cache_size", &0);
    add("background_pool_size", &limits.background_threads);
    add("background_merges_mutations_concurrency_ratio", &2);
    add("background_schedule_pool_size", &4);
    add("background_common_pool_size", &2);
    add("background_move_pool_size", &1);
    add("background_fetches_pool_size", &1);
    add("background_message_broker_schedule_pool_size", &1);
    add("background_distributed_schedule_pool_size", &1);
    add("background_buffer_flush_schedule_pool_size", &1);
    // Objects are loaded at once: a dictionary must be there when the first insert asks it.
    add("dictionaries_lazy_load", &"true");
    writeln!(
        xml,
        "    <user_directories><users_xml><path>{users}</path></users_xml></user_directories>"
    )
    .expect("a String takes everything");
    xml.push_str("</clickhouse>\n");
    xml
}

/// `users.xml`: one user with a profile, bounds that a client's settings cannot pass, and grants.
pub fn users_xml(limits: &EngineLimits) -> String {
    let EngineLimits {
        query_memory_max_bytes: memory,
        query_threads: threads,
        query_time_max_s: seconds,
        ..
    } = limits;
    let threads = if *threads == 0 {
        String::new()
    } else {
        format!("<max_threads>{threads}</max_threads>")
    };
    let mut grants = format!("                <query>{GRANTS}</query>\n");
    for engine in TABLE_ENGINES {
        writeln!(
            grants,
            "                <query>GRANT TABLE ENGINE ON {engine}</query>"
        )
        .expect("a String takes everything");
    }
    format!(
        "<clickhouse>
    <profiles>
        <default>
            {threads}
            <max_memory_usage>{memory}</max_memory_usage>
            <max_execution_time>{seconds}</max_execution_time>
            <max_threads_min_free_memory_per_thread>{MIN_FREE_MEMORY_PER_THREAD}</max_threads_min_free_memory_per_thread>
            <max_insert_threads_min_free_memory_per_thread>{MIN_FREE_MEMORY_PER_THREAD}</max_insert_threads_min_free_memory_per_thread>
            <async_insert>0</async_insert>
            <deduplicate_insert>enable</deduplicate_insert>
            <deduplicate_blocks_in_dependent_materialized_views>1</deduplicate_blocks_in_dependent_materialized_views>
            <allow_introspection_functions>0</allow_introspection_functions>
            <constraints>
                <max_memory_usage><min>1</min><max>{memory}</max></max_memory_usage>
                <max_execution_time><min>0.001</min><max>{CLIENT_TIME_MAX_S}</max></max_execution_time>
                <allow_introspection_functions><const/></allow_introspection_functions>
                <async_insert><const/></async_insert>
            </constraints>
        </default>
    </profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
{grants}            </grants>
        </default>
    </users>
</clickhouse>
"
    )
}
