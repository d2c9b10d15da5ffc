//! Batches sent again until acknowledged are stored once and counted once, whatever kills the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Place, Store, library_or_skip};

const TABLES: &[&str] = &[
    "CREATE DATABASE ja4_logs",
    "CREATE DATABASE ja4_processing",
    "CREATE TABLE ja4_logs.source (day Date, batch UInt64, n UInt32, k UInt16, v UInt64) ENGINE = MergeTree \
     PARTITION BY day ORDER BY (k, batch) SETTINGS non_replicated_deduplication_window = 10000",
    "CREATE TABLE ja4_processing.by_key (day Date, k UInt16, rows SimpleAggregateFunction(sum, UInt64), \
     v SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree PARTITION BY day ORDER BY k \
     SETTINGS non_replicated_deduplication_window = 10000",
    "CREATE MATERIALIZED VIEW ja4_processing.by_key_mv TO ja4_processing.by_key AS \
     SELECT day, k, count() AS rows, sum(v) AS v FROM ja4_logs.source GROUP BY day, k",
    "CREATE TABLE ja4_processing.by_batch (batch UInt64, rows UInt64, v UInt64) ENGINE = SummingMergeTree ORDER BY batch \
     SETTINGS non_replicated_deduplication_window = 10000",
    "CREATE MATERIALIZED VIEW ja4_processing.by_batch_mv TO ja4_processing.by_batch AS \
     SELECT batch, count() AS rows, sum(v) AS v FROM ja4_logs.source GROUP BY batch",
    "CREATE TABLE ja4_processing.total (one UInt8, rows AggregateFunction(count), v AggregateFunction(sum, UInt64)) \
     ENGINE = AggregatingMergeTree ORDER BY one SETTINGS non_replicated_deduplication_window = 10000",
    "CREATE MATERIALIZED VIEW ja4_processing.total_mv TO ja4_processing.total AS \
     SELECT 1::UInt8 AS one, countState() AS rows, sumState(v) AS v FROM ja4_logs.source GROUP BY one",
];

/// One batch in RowBinary: two days, so that one insert makes two parts in each partitioned table.
fn batch(number: u64, n_rows: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..n_rows {
        bytes.extend_from_slice(&(20_000 + u16::try_from(n % 2).unwrap()).to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&n.to_le_bytes());
        bytes.extend_from_slice(
            &u16::try_from((u64::from(n) * 7 + number) % 50)
                .unwrap()
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&(u64::from(n) ^ number).to_le_bytes());
    }
    bytes
}

fn n_rows(number: u64) -> u32 {
    [1, 2, 100, 1000, 3000][usize::try_from(number % 5).unwrap()]
}

fn insert(place: &Place, number: u64) -> Option<crate::common::Answer> {
    let query = format!(
        "query=INSERT+INTO+ja4_logs.source+FORMAT+RowBinary&insert_deduplication_token=batch-{number}\
         &deduplicate_blocks_in_dependent_materialized_views=1"
    );
    place.try_post("writer", &query, &batch(number, n_rows(number)))
}

/// Every acknowledged batch is there once, in the source and in every aggregate.
#[track_caller]
fn check(store: &Store<'_>, n_batches: u64) {
    let expected: u64 = (0..n_batches).map(|number| u64::from(n_rows(number))).sum();
    let of = |sql: &str| store.sql(sql);
    assert_eq!(
        of("SELECT count() FROM ja4_logs.source"),
        expected.to_string(),
        "rows of the source"
    );
    assert_eq!(
        of("SELECT uniqExact(batch, n), uniqExact(batch) FROM ja4_logs.source"),
        format!("{expected}\t{n_batches}"),
        "rows of the source are different ones"
    );
    let again = "SELECT day, k, count(), sum(v) FROM ja4_logs.source GROUP BY day, k ORDER BY day, k";
    let kept = "SELECT day, k, sum(rows), sum(v) FROM ja4_processing.by_key GROUP BY day, k ORDER BY day, k";
    assert_eq!(of(kept), of(again), "by_key");
    let again = "SELECT batch, count(), sum(v) FROM ja4_logs.source GROUP BY batch ORDER BY batch";
    let kept = "SELECT batch, sum(rows), sum(v) FROM ja4_processing.by_batch GROUP BY batch ORDER BY batch";
    assert_eq!(of(kept), of(again), "by_batch");
    let again = "SELECT count(), sum(v) FROM ja4_logs.source";
    let kept = "SELECT countMerge(rows), sumMerge(v) FROM ja4_processing.total";
    assert_eq!(of(kept), of(again), "total");
}

/// Compiles the shim; None, with a message, where there is no C compiler.
fn shim(directory: &Path) -> Option<PathBuf> {
    let library = directory.join("rename_shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/rename_shim.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status();
    if compiled.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    eprintln!("skipped: cc cannot compile the shim (apt-get install build-essential)");
    None
}

/// Deterministic randomness, so that a failure can be told apart from bad luck by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// One batch of requests on the real schema: rows of two days, so that one insert makes two parts in each table that is
/// partitioned, and few enough different values that no aggregate of "up to 16 of them" has to choose.
fn requests(number: u64, n_rows: u32, now_s: u64) -> String {
    let mut rows = String::new();
    for n in 0..u64::from(n_rows) {
        let at = now_s - 86_400 * (n % 2) - n % 50;
        let client = (n * 7 + number) % 50;
        let row = [
            format!("{at}.{:06}", n % 1_000_000),
            format!("{at}.{:06}", n % 1_000_000 + 5),
            number.to_string(),
            n.to_string(),
            format!("::ffff:192.0.2.{client}"),
            ["GET", "POST", "HEAD"][n as usize % 3].to_owned(),
            format!("shop{}.example", n % 3),
            format!("/item/{}", n % 20),
            format!("agent/{}", client % 10),
            (client % 4).to_string(),
            [200, 304, 404, 500][n as usize % 4].to_string(),
            (n ^ number).to_string(),
            ["exact", "none"][n as usize % 2].to_owned(),
            format!("t13d1516h2_{}", client % 5),
        ];
        rows.push_str(&row.join("\t"));
        rows.push('\n');
    }
    rows
}

fn insert_requests(place: &Place, number: u64, now_s: u64) -> Option<crate::common::Answer> {
    const COLUMNS: &str = "ts,recv_ts,boot,seq,src_ip,method,host,path,user_agent,header_order_hash,status,bytes_sent,match,ja4";
    let query = format!(
        "query=INSERT+INTO+ja4_logs.http_logs+({COLUMNS})+FORMAT+TSV&insert_deduplication_token=batch-{number}\
         &deduplicate_blocks_in_dependent_materialized_views=1"
    );
    place.try_post(
        "writer",
        &query,
        requests(number, n_rows(number), now_s).as_bytes(),
    )
}

fn apply_schema(store: &Store<'_>) {
    let client = clickhouse::Client::default()
        .with_url(store.url())
        .with_user("migrator")
        .with_password(store.place.token("migrator"));
    let schema = ja4_schema::Store::with_client(client, ja4_schema::Names::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let retention = ja4_schema::RetentionDays::default();
    runtime
        .block_on(ja4_schema::apply(&schema, &ja4_schema::migrations(), &retention))
        .unwrap();
}

/// Every acknowledged batch of requests is there once, and every table that a view fills holds what the view makes of the
/// rows when it is asked again. Gives the number of views.
#[track_caller]
fn check_requests(store: &Store<'_>, n_batches: u64) -> usize {
    let expected: u64 = (0..n_batches).map(|number| u64::from(n_rows(number))).sum();
    assert_eq!(
        store.sql("SELECT count(), uniqExact(boot, seq), uniqExact(boot) FROM ja4_logs.http_logs"),
        format!("{expected}\t{expected}\t{n_batches}"),
        "rows of http_logs"
    );
    store.sql("DROP DATABASE IF EXISTS again");
    store.sql("CREATE DATABASE again");
    let views = store.ok(
        "migrator",
        "SELECT extract(create_table_query, ' TO ([A-Za-z0-9_.`]+)'), as_select FROM system.tables \
         WHERE engine = 'MaterializedView' AND startsWith(database, 'ja4_') AND as_select NOT LIKE '%.soc_%' ORDER BY name FORMAT JSONCompactEachRow",
    );
    for view in views.lines() {
        let [target, select] = serde_json::from_str::<[String; 2]>(view).unwrap();
        let (database, table) = target.split_once('.').unwrap();
        let again = format!("again.{table}");
        let described = store.sql(&format!("DESCRIBE TABLE ({select})"));
        let names: Vec<&str> = described
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        store.sql(&format!("CREATE TABLE {again} AS {target}"));
        store.sql(&format!("INSERT INTO {again} ({}) {select}", names.join(", ")));
        let expressions = store.sql(&format!(
            "SELECT multiIf(startsWith(type, 'AggregateFunction('), 'finalizeAggregation(' || name || ') AS f_' || name,
                 startsWith(type, 'SimpleAggregateFunction(group') AND position(type, 'Array(') > 0, 'arraySort(' || name || ') AS s_' || name,
                 name)
             FROM system.columns WHERE database = '{database}' AND table = '{table}' AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')
             -- Any value of the group will do, and which it is depends on the order of merges.
             AND NOT startsWith(type, 'SimpleAggregateFunction(any,')"
        ));
        let rows = |table: &str| format!("SELECT {} FROM {table} FINAL", expressions.replace('\n', ", "));
        let (kept, made) = (rows(&target), rows(&again));
        let count = |rows: &str| store.sql(&format!("SELECT count() FROM ({rows})"));
        assert_eq!(count(&kept), count(&made), "rows of {target}");
        assert_ne!(count(&kept), "0", "{target} is empty");
        for (left, right) in [(&kept, &made), (&made, &kept)] {
            let difference = store.sql(&format!(
                "SELECT * FROM ({left} EXCEPT {right}) LIMIT 3 FORMAT JSONEachRow"
            ));
            assert_eq!(difference, "", "{target}");
        }
    }
    views.lines().count()
}

fn n_repaired(place: &Place) -> usize {
    place.log().matches("repaired the deduplication logs").count()
}

/// Kills the store again and again under three inserters, on the real schema with all its materialized views; the gap
/// between record and rename is widened.
#[test]
fn killed_store_neither_loses_nor_doubles_an_acknowledged_batch() {
    let library = library_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else {
        return;
    };
    let wanted_kills: u64 =
        std::env::var("JA4_SOAK_KILLS").map_or(20, |n| n.parse().expect("JA4_SOAK_KILLS is a number"));
    let mut place = Place::new(library);
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let (seed, now_s) = (since_1970.as_nanos() as u64 | 1, since_1970.as_secs());
    println!("seed {seed}");
    let mut random = Random(seed);
    let store = place.start();
    apply_schema(&store);
    assert!(store.stop().success());
    place.environment = vec![
        ("LD_PRELOAD".to_owned(), shim.display().to_string()),
        ("JA4_RENAME_DELAY_US".to_owned(), "5000".to_owned()),
    ];
    let mut store = place.start();
    // One before the kills, so that a batch that is refused is seen.
    let started = Instant::now();
    let answer = insert_requests(&place, 4, now_s).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Kills come at any moment of an insert on this machine as it is now.
    let insert_ms = AtomicU64::new(started.elapsed().as_millis() as u64);
    let next = AtomicU64::new(0);
    let ending = AtomicBool::new(false);
    let n_resent = AtomicU64::new(0);
    let acknowledged = Mutex::new(Vec::new());
    let mut n_kills = 0;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ending.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let mut started = Instant::now();
                    while insert_requests(&place, number, now_s).is_none_or(|answer| answer.status != 200) {
                        n_resent.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(20));
                        started = Instant::now();
                    }
                    insert_ms.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                    acknowledged.lock().unwrap().push(number);
                }
            });
        }
        // Few kills may all miss the gap; then more are needed to have tested anything.
        while n_kills < wanted_kills || (n_repaired(&place) == 0 && n_kills < wanted_kills + 200) {
            // Now and then in the boot itself.
            let pause = if random.below(8) == 0 {
                random.below(300)
            } else {
                random.below(3 * insert_ms.load(Ordering::Relaxed) + 100)
            };
            std::thread::sleep(Duration::from_millis(pause));
            store.child.kill().unwrap();
            store.child.wait().unwrap();
            n_kills += 1;
            store.child = place.spawn();
            if random.below(8) != 0 {
                store.wait_ready();
            }
        }
        store.wait_ready();
        ending.store(true, Ordering::SeqCst);
    });
    let mut acknowledged = acknowledged.into_inner().unwrap();
    acknowledged.sort_unstable();
    let n_batches = next.load(Ordering::SeqCst);
    assert_eq!(acknowledged, (0..n_batches).collect::<Vec<u64>>());
    let n_repaired = n_repaired(&place);
    println!(
        "{n_kills} kills, {n_batches} batches, {n_resent:?} sent again, {n_repaired} boots repaired logs"
    );
    assert!(
        n_repaired > 0,
        "no kill hit the gap: the test does not test what it says"
    );
    assert_eq!(check_requests(&store, n_batches), 6, "views that were compared");
    // The same again after an orderly restart and a merge of everything.
    assert!(store.stop().success());
    place.environment.clear();
    let store = place.start();
    let tables = store.sql(
        "SELECT database || '.' || name FROM system.tables WHERE engine LIKE '%MergeTree' AND startsWith(database, 'ja4_')",
    );
    for table in tables.lines() {
        store.sql(&format!("OPTIMIZE TABLE {table} FINAL"));
    }
    check_requests(&store, n_batches);
}

#[test]
fn error_in_a_commit_is_answered_then_ends_the_process_and_the_batch_sent_again_is_whole() {
    let library = library_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let Some(shim) = shim(directory.path()) else {
        return;
    };
    let fail = directory.path().join("fail");
    let mut place = Place::new(library);
    place.environment = vec![
        ("LD_PRELOAD".to_owned(), shim.display().to_string()),
        ("JA4_RENAME_FAIL_FILE".to_owned(), fail.display().to_string()),
    ];
    let mut store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    for number in 0..10 {
        assert_eq!(insert(&place, number).unwrap().status, 200);
    }
    fs::write(&fail, "").unwrap();
    let answer = insert(&place, 10).unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
    // Sent again at once, to the process that has not ended yet: never acknowledged.
    fs::remove_file(&fail).unwrap();
    if let Some(answer) = insert(&place, 10) {
        assert_ne!(
            answer.status, 200,
            "a batch was acknowledged between the error and the end of the process"
        );
    }
    assert_eq!(store.wait_exit().code(), Some(75));
    assert!(place.log().contains("ending with code 75"), "{}", place.log());
    drop(store);
    let store = place.start();
    assert_eq!(insert(&place, 10).unwrap().status, 200);
    assert_eq!(insert(&place, 10).unwrap().status, 200);
    check(&store, 11);
}

#[test]
fn bad_data_of_a_client_never_ends_the_process() {
    let library = library_or_skip!();
    let place = Place::new(library);
    let mut store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    let refused = |query: &str, body: &[u8]| {
        let answer = store.post("writer", query, body);
        assert_ne!(answer.status, 200, "{query}");
        answer.code().unwrap()
    };
    let into = |rest: &str| format!("query=INSERT+INTO+ja4_logs.source+{rest}");
    assert_eq!(refused(&into("FORMAT+RowBinary"), &batch(0, 3)[..20]), 33);
    assert_eq!(refused(&into("FORMAT+TSV"), b"a\tb\n"), 38);
    refused(&into("FORMAT+CSV"), b"2024-01-01,1,1,99999999,x\n");
    refused(&into("FORMAT+JSONEachRow"), b"{\"day\": ");
    refused(&into("FORMAT+Native"), &[0xff; 4000]);
    refused(&into("FORMAT+NoSuchFormat"), b"x");
    assert_eq!(refused(&into("(nosuch)+FORMAT+TSV"), b"1\n"), 16);
    assert_eq!(
        refused("query=INSERT+INTO+ja4_logs.nosuch+FORMAT+TSV", b"1\n"),
        60
    );
    assert_eq!(
        refused(
            &(into("FORMAT+RowBinary") + "&max_partitions_per_insert_block=1"),
            &batch(0, 10)
        ),
        252
    );
    std::thread::sleep(Duration::from_millis(600));
    assert!(
        store.child.try_wait().unwrap().is_none(),
        "the store ended:\n{}",
        place.log()
    );
    assert_eq!(store.sql("SELECT count() FROM ja4_logs.source"), "0");
}

/// Memory, time and other limits of a statement strike anywhere up to the commit; the batch is sent again.
#[test]
fn limit_met_by_an_insert_neither_ends_the_process_nor_loses_or_doubles_its_batch() {
    /// The engine looks at the limits once a thread has taken 4 MiB more, so the batch is larger.
    const N_ROWS: u32 = 400_000;
    let library = library_or_skip!();
    let place = Place::new(library);
    let mut store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    let data = batch(7, N_ROWS);
    let insert = |settings: &str| {
        let query = format!(
            "query=INSERT+INTO+ja4_logs.source+FORMAT+RowBinary&insert_deduplication_token=limited&{settings}"
        );
        store.post("writer", &query, &data)
    };
    for (setting, code) in [
        ("max_memory_usage=4000000", 241),
        ("max_memory_usage=20000000", 241),
        ("max_execution_time=0.001", 159),
        ("max_partitions_per_insert_block=1", 252),
    ] {
        let answer = insert(setting);
        assert_eq!(answer.code(), Some(code), "{setting}: {}", answer.text());
    }
    // Somewhere between too little and enough, the limit strikes in the views or in the commit.
    let mut struck = 0;
    let mut limit = 20_000_000;
    loop {
        let answer = insert(&format!("max_memory_usage={limit}"));
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.code(), Some(241), "{limit}: {}", answer.text());
        struck += 1;
        limit += 500_000;
        assert!(limit < 500_000_000, "no memory was ever enough");
    }
    println!("{limit} bytes were enough after {struck} more refusals");
    assert_eq!(insert("").status, 200);
    assert!(
        store.child.try_wait().unwrap().is_none(),
        "the store ended:\n{}",
        place.log()
    );
    assert_eq!(
        store.sql("SELECT count(), uniqExact(n) FROM ja4_logs.source"),
        format!("{N_ROWS}\t{N_ROWS}")
    );
    assert_eq!(
        store.sql("SELECT sum(rows) FROM ja4_processing.by_key"),
        N_ROWS.to_string()
    );
    assert_eq!(
        store.sql("SELECT sum(rows) FROM ja4_processing.by_batch"),
        N_ROWS.to_string()
    );
    assert_eq!(
        store.sql("SELECT countMerge(rows) FROM ja4_processing.total"),
        N_ROWS.to_string()
    );
}

#[test]
fn insert_that_its_client_breaks_off_leaves_no_rows() {
    use std::io::Write as _;
    let library = library_or_skip!();
    let place = Place::new(library);
    let store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    let body = batch(0, 3000);
    for sent in [0, 1, body.len() / 2, body.len() - 1] {
        let mut stream = store.connect();
        let head = format!(
            "POST /?query=INSERT+INTO+ja4_logs.source+FORMAT+RowBinary HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{sent:x}\r\n",
            place.token("writer")
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body[..sent]).unwrap();
        drop(stream);
    }
    store.until("end of the inserts", |store| store.running() == 0);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(store.sql("SELECT count() FROM ja4_logs.source"), "0");
}

/// A file system of `mebibytes` in memory, unmounted on drop. None, with a message, where that is not allowed.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "ja4-test"])
            .arg(path)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("skipped: a small file system can be mounted by root only");
        None
    }

    fn resize(&self, mebibytes: u32) {
        let options = format!("remount,size={mebibytes}m");
        assert!(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

#[test]
fn full_disk_is_said_and_survived_without_losing_what_was_acknowledged() {
    let library = library_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 48) else {
        return;
    };
    // Lower than the file system can get: the engine itself runs into the wall.
    let place = Place::at(library, directory.path().join("disk/store")).with("disk_free_min: 0\n");
    let mut store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    let mut number = 0;
    let failed = loop {
        match insert(&place, number) {
            Some(answer) if answer.status == 200 => number += 1,
            outcome => break outcome,
        }
        assert!(number < 20_000, "the disk never got full");
        if number == 20 {
            fs::write(directory.path().join("disk/ballast"), vec![1; 30 << 20]).ok();
        }
    };
    println!(
        "full after {number} batches: {:?}",
        failed.as_ref().map(|a| (a.status, a.text()))
    );
    std::thread::sleep(Duration::from_millis(600));
    let ended = store.child.try_wait().unwrap();
    if let Some(status) = ended {
        assert_eq!(status.code(), Some(75), "{}", place.log());
    }
    drop(store);
    disk.resize(256);
    fs::remove_file(directory.path().join("disk/ballast")).ok();
    let store = place.start();
    for again in number..number + 5 {
        assert_eq!(insert(&place, again).unwrap().status, 200);
    }
    check(&store, number + 5);
}

#[test]
fn nearly_full_disk_refuses_inserts_with_the_remedy() {
    let library = library_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 64) else {
        return;
    };
    let place = Place::at(library, directory.path().join("disk/store")).with("disk_free_min: 32MiB\n");
    let store = place.start();
    for table in TABLES {
        store.sql(table);
    }
    assert_eq!(insert(&place, 0).unwrap().status, 200);
    fs::write(directory.path().join("disk/ballast"), vec![1; 40 << 20]).unwrap();
    let answer = insert(&place, 1).unwrap();
    assert_eq!((answer.status, answer.code()), (507, Some(243)));
    assert!(answer.text().contains("disk_free_min"), "{}", answer.text());
    assert_eq!(insert(&place, 1).unwrap().status, 507);
    assert_eq!(store.sql("SELECT count() > 0 FROM ja4_logs.source"), "1");
    fs::remove_file(directory.path().join("disk/ballast")).unwrap();
    assert_eq!(insert(&place, 1).unwrap().status, 200);
    // Whoever reads the log learns when it began and when it was over, in two lines however many were refused.
    let log = place.log();
    for line in ["inserts are refused: ", "inserts are taken again"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    check(&store, 2);
    drop(store);
    drop(disk);
}
