//! The HTTP interface against the real engine: what curl and other clients see.

use base64::Engine as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Place, library_or_skip};

#[test]
fn statements_parameters_formats_and_errors_are_a_servers() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    assert_eq!(store.sql("SELECT 1 + 1"), "2");
    assert_eq!(store.sql("SELECT 1 AS a FORMAT JSONEachRow;"), "{\"a\":1}");
    assert!(store.sql("SELECT timezone()").ends_with("UTC"));
    let get = |query: &str| store.post("migrator", query, b"").text();
    assert_eq!(get("query=SELECT+%7Bx:UInt8%7D+%2B+1&param_x=4"), "5\n");
    assert_eq!(
        get("query=SELECT+number&max_block_size=1").trim(),
        get("query=SELECT+number").trim()
    );
    assert_eq!(store.post("migrator", "query=SELECT", b" 1").text(), "1\n");
    assert_eq!(
        store.post("migrator", "default_format=CSV", b"SELECT 'a'").text(),
        "\"a\"\n"
    );
    store.sql("CREATE DATABASE d");
    assert_eq!(
        store
            .post("migrator", "database=d", b"SELECT currentDatabase()")
            .text(),
        "d\n"
    );

    let refused = |query: &str, sql: &str| {
        let (status, code, text) = store.refused("migrator", query, sql);
        assert!(
            text.starts_with(&format!("Code: {code}. DB::Exception: ")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
        (status, code)
    };
    assert_eq!(refused("", "SELECT * FROM d.nosuch"), (404, 60));
    assert_eq!(refused("", "SELECT nosuch"), (404, 47));
    assert_eq!(refused("nosuch=1", "SELECT 1"), (404, 115));
    assert_eq!(refused("", "SELEC 1"), (400, 62));
    assert_eq!(refused("", "SELECT 1; SELECT 2"), (400, 62));
    assert_eq!(refused("", ""), (400, 62));
    assert_eq!(refused("database=nosuch", "SELECT 1"), (404, 81));
    assert_eq!(
        refused("readonly=1", "CREATE TABLE d.x (a Int8) ENGINE = Null"),
        (500, 164)
    );
    assert_eq!(
        refused(
            "max_execution_time=0.3",
            "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
        ),
        (408, 159)
    );
    assert_eq!(
        refused(
            "max_memory_usage=1000000",
            "SELECT groupArray(number) FROM numbers(10000000)"
        )
        .1,
        241
    );
    assert_eq!(refused("max_memory_usage=0", "SELECT 1").1, 452);
    assert_eq!(refused("session_id=x", "SELECT 1"), (501, 344));
    // A statement after an error, on the same socket and on a new one: nothing of the failed one is left.
    for format in ["RowBinaryWithNamesAndTypes", "JSON", "TSV"] {
        let query = format!("default_format={format}");
        let good = store.post("migrator", &query, b"SELECT 7 AS seven").body;
        store.refused(
            "migrator",
            &query,
            "SELECT throwIf(number = 3, 'boom') FROM numbers(10)",
        );
        let again = store.post("migrator", &query, b"SELECT 7 AS seven").body;
        let strip = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .split("elapsed")
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(strip(&again), strip(&good), "{format}");
    }
    assert!(store.stop().success());
}

#[test]
fn bytes_that_look_like_line_ends_come_back_as_they_went() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    store.sql("CREATE DATABASE d");
    store.sql("CREATE TABLE d.t (a UInt32, s String) ENGINE = MergeTree ORDER BY a");
    let mut rows = Vec::new();
    for (a, s) in [
        (0x0a0a_u32, "x\n\ny"),
        (0x0a0a_0a0a, "\n\n;"),
        (1, "  lead\0\n\n"),
        (2, "INSERT\n\nFORMAT"),
    ] {
        rows.extend_from_slice(&a.to_le_bytes());
        rows.push(u8::try_from(s.len()).unwrap());
        rows.extend_from_slice(s.as_bytes());
    }
    // In the URL, in the body, and in the body cut into chunks.
    for (query, prefix) in [
        ("query=INSERT+INTO+d.t+FORMAT+RowBinary", ""),
        ("", "INSERT INTO d.t FORMAT RowBinary\n"),
    ] {
        store.sql("TRUNCATE TABLE d.t");
        let body = [prefix.as_bytes(), &rows].concat();
        let answer = store.post("migrator", query, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let back = store.post(
            "migrator",
            "",
            b"SELECT a, s FROM d.t ORDER BY a = 2, a = 1, a > 65536 FORMAT RowBinary",
        );
        assert_eq!(back.body, rows);
    }
    let text = store.ok("migrator", "INSERT INTO d.t VALUES (3, 'a;\n\nb'), (4, '''')");
    assert_eq!(text, "");
    assert_eq!(store.sql("SELECT count() FROM d.t"), "6");
}

#[test]
fn long_answer_has_one_header_and_every_row() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    let query = "default_format=RowBinaryWithNamesAndTypes";
    let answer = store.post("migrator", query, b"SELECT number AS n FROM numbers(1000000)");
    let header = b"\x01\x01n\x06UInt64";
    assert_eq!(&answer.body[..header.len()], header);
    let rows = &answer.body[header.len()..];
    assert_eq!(rows.len(), 8_000_000);
    let sum: u64 = rows
        .chunks(8)
        .map(|n| u64::from_le_bytes(n.try_into().unwrap()))
        .sum();
    assert_eq!(sum, 999_999 * 1_000_000 / 2);
    // A format that must be whole, within its limit and beyond.
    let query = "default_format=JSONCompact";
    let json = store.post("migrator", query, b"SELECT number FROM numbers(100000)");
    assert!(json.text().contains("\"rows\": 100000"));
    let sql = "SELECT number, repeat('x', 100) FROM numbers(1000000)";
    let (status, code, _) = store.refused("migrator", "default_format=JSON", sql);
    assert_eq!((status, code), (500, 396));
}

#[test]
fn answer_that_must_be_whole_has_its_limit_to_the_byte_and_row() {
    let place = Place::new(library_or_skip!()).with("http:\n  result_max: 1MiB\n");
    let store = place.start();
    let ask = |query: &str, sql: &str| {
        let query = format!("default_format=TSVWithNames&{query}");
        let answer = store.post("dashboard", &query, sql.as_bytes());
        (answer.status, answer.code(), answer.body.len())
    };
    let too_much = |(status, code, _)| {
        assert_eq!((status, code), (500, Some(396)));
    };
    // Name and value with their line ends are three bytes more.
    assert_eq!(
        ask("", "SELECT repeat('x', 1000000) || repeat('x', 48573) AS s"),
        (200, None, 1 << 20)
    );
    too_much(ask("", "SELECT repeat('x', 1000000) || repeat('x', 48574) AS s"));
    // More than it may be already in the engine.
    too_much(ask(
        "",
        "SELECT repeat('x', number + 1000) AS s FROM numbers(2000)",
    ));
    assert_eq!(
        ask("", "SELECT 1 AS s FROM numbers(16384)"),
        (200, None, 2 + 2 * 16384)
    );
    too_much(ask("", "SELECT 1 AS s FROM numbers(16385)"));
    // A client may ask for less, not for more.
    too_much(ask("max_result_rows=10", "SELECT 1 AS s FROM numbers(11)"));
    for more in ["max_result_rows=0", "max_result_rows=100000", "max_result_rows=x"] {
        too_much(ask(more, "SELECT 1 AS s FROM numbers(16385)"));
    }
    too_much(ask(
        "max_result_bytes=0",
        "SELECT repeat('x', number + 1000) AS s FROM numbers(2000)",
    ));
    let sql = "SELECT repeat('x', 1000000) || repeat('x', 48574) AS s SETTINGS max_result_bytes = 0, max_result_rows = 0";
    too_much(ask("", sql));
    // Not where the answer is streamed.
    assert_eq!(
        ask("", "SELECT 1 FROM numbers(1000000) FORMAT TSV"),
        (200, None, 2_000_000)
    );
}

#[test]
fn exception_in_the_middle_of_an_answer_is_marked_with_its_tag() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    let sql = b"SELECT number, throwIf(number = 900000, 'boom') FROM numbers(2000000) FORMAT RowBinary";
    let answer = store.post("migrator", "max_threads=1", sql);
    assert_eq!(answer.status, 200);
    let tag = answer.header("x-clickhouse-exception-tag").unwrap().to_owned();
    let tail = String::from_utf8_lossy(&answer.body[answer.body.len() - 600..]).into_owned();
    assert!(
        tail.contains(&format!(
            "\r\n__exception__\r\n{tag}\r\nCode: 395. DB::Exception: "
        )),
        "{tail}"
    );
    assert!(tail.ends_with(&format!(" {tag}\r\n__exception__\r\n")), "{tail}");
}

#[test]
fn files_urls_and_programs_are_refused_for_every_token() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    store.sql("CREATE DATABASE ja4_logs");
    store.sql("CREATE TABLE ja4_logs.t (x String) ENGINE = MergeTree ORDER BY x");
    for class in ["migrator", "writer", "detector", "dashboard"] {
        for sql in [
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
            "SELECT * FROM remote('127.0.0.1', 'system.one')",
            "SELECT * FROM `passwd.csv`",
            "SELECT 1 INTO OUTFILE '/tmp/ja4-clickhouse-test'",
            "SELECT 1 UNION ALL SELECT 2 INTO OUTFILE '/tmp/ja4-clickhouse-test' FORMAT CSV",
            "SELECT * FROM executable('id', 'LineAsString', 'x String')",
            "INSERT INTO ja4_logs.t FROM INFILE '/etc/passwd' FORMAT LineAsString",
            "INSERT INTO FUNCTION file('/tmp/x', 'CSV', 'x String') VALUES ('a')",
            "CREATE TABLE ja4_logs.f (x String) ENGINE = File(CSV)",
            "CREATE TABLE ja4_logs.u (x String) ENGINE = URL('http://127.0.0.1/', 'CSV')",
            "CREATE USER x",
            "BACKUP TABLE ja4_logs.t TO File('/tmp/x')",
        ] {
            let answer = store.post(class, "", sql.as_bytes());
            assert_ne!(answer.status, 200, "{class}: {sql}: {}", answer.text());
            assert!(!answer.text().contains("root:"), "{class}: {sql}");
        }
    }
    assert!(!std::path::Path::new("/tmp/ja4-clickhouse-test").exists());
    assert_eq!(store.sql("SELECT count() FROM ja4_logs.t"), "0");
}

#[test]
fn tokens_open_what_their_class_may_and_nothing_else() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    for sql in [
        "CREATE DATABASE ja4_logs",
        "CREATE DATABASE ja4_processing",
        "CREATE TABLE ja4_logs.http_logs (x UInt8) ENGINE = MergeTree ORDER BY x",
        "CREATE TABLE ja4_processing.soc_labels (x UInt8) ENGINE = MergeTree ORDER BY x",
        "CREATE TABLE ja4_processing.ml_all_scores (x UInt8) ENGINE = MergeTree ORDER BY x",
        "CREATE TABLE ja4_processing.schema_steps (x UInt8) ENGINE = MergeTree ORDER BY x",
    ] {
        store.sql(sql);
    }
    let allowed = |class: &str, sql: &str| store.post(class, "", sql.as_bytes()).status == 200;
    let tables = [
        "ja4_logs.http_logs",
        "ja4_processing.soc_labels",
        "ja4_processing.ml_all_scores",
        "ja4_processing.schema_steps",
    ];
    let rights = |class: &str| {
        tables.map(|table| {
            let read = allowed(class, &format!("SELECT count() FROM {table}"));
            let insert = allowed(class, &format!("INSERT INTO {table} VALUES (1)"));
            (read, insert)
        })
    };
    let (yes, no) = (true, false);
    assert_eq!(rights("writer"), [(yes, yes), (no, no), (no, no), (yes, no)]);
    assert_eq!(
        rights("detector"),
        [(yes, no), (yes, yes), (yes, yes), (yes, yes)]
    );
    assert_eq!(rights("dashboard"), [(yes, no), (yes, yes), (yes, no), (yes, no)]);
    assert_eq!(rights("migrator"), [(yes, yes); 4]);
    for class in ["writer", "detector", "dashboard"] {
        for sql in [
            "DROP TABLE ja4_logs.http_logs",
            "SYSTEM RELOAD DICTIONARIES",
            "SET max_threads = 1",
            "KILL QUERY WHERE 1",
            "ALTER TABLE ja4_logs.http_logs DELETE WHERE 1",
            "SELECT * FROM merge('ja4_processing', '.*')",
            "SELECT query FROM system.processes",
        ] {
            assert_eq!(store.refused(class, "", sql).1, 497, "{class}: {sql}");
        }
    }
    // Three ways to send a token; wrong ones are one line and never shown.
    let writer = place.token("writer");
    let ask = |headers: &str| {
        let mut stream = store.connect();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 8\r\nConnection: close\r\n\r\nSELECT 1"
        );
        stream.write_all(request.as_bytes()).unwrap();
        crate::common::read_answer(&mut stream).unwrap()
    };
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("writer:{writer}"));
    for headers in [
        format!("Authorization: Bearer {writer}\r\n"),
        format!("Authorization: Basic {basic}\r\n"),
        format!("X-ClickHouse-Key: {writer}\r\n"),
        format!("X-ClickHouse-User: writer\r\nX-ClickHouse-Key: {writer}\r\n"),
    ] {
        assert_eq!(ask(&headers).status, 200, "{}", &headers[..20]);
    }
    for headers in [
        String::new(),
        format!("X-ClickHouse-User: migrator\r\nX-ClickHouse-Key: {writer}\r\n"),
        "Authorization: Bearer wrong-token-wrong-token\r\n".to_owned(),
    ] {
        let answer = ask(&headers);
        assert_eq!((answer.status, answer.code()), (403, Some(516)));
        assert_eq!(answer.text().lines().count(), 1);
    }
    let command_line = std::fs::read(format!("/proc/{}/cmdline", store.child.id())).unwrap();
    for class in ["writer", "detector", "dashboard", "migrator"] {
        let token = place.token(class);
        assert!(!place.log().contains(&token) && !String::from_utf8_lossy(&command_line).contains(&token));
    }
}

#[test]
fn statement_whose_client_goes_away_is_cancelled() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    for sql in [
        // Before the first row, in the middle of rows, and in a format that is made whole.
        "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)",
        "SELECT number FROM numbers(1000000000000) FORMAT TSV",
        "SELECT sum(sipHash64(number)) FROM numbers(1000000000000) FORMAT JSON",
    ] {
        let stream = store.ask("migrator", sql);
        store.until("a running statement", |store| store.running() == 1);
        drop(stream);
        store.until("the end of the statement", |store| store.running() == 0);
    }
}

#[test]
fn client_that_does_not_read_is_cut_off_and_costs_no_memory() {
    let place = Place::new(library_or_skip!()).with("http:\n  write_timeout: 1s\n");
    let store = place.start();
    store.sql("SELECT 1");
    let before = store.memory_kb("RssAnon");
    let sql = "SELECT number, repeat('x', 200) FROM numbers(100000000) FORMAT RowBinary";
    let streams: Vec<_> = (0..4).map(|_| store.ask("migrator", sql)).collect();
    store.until("running statements", |store| store.running() > 0);
    store.until("the end of the statements", |store| store.running() == 0);
    let grown = store.memory_kb("RssAnon").saturating_sub(before);
    println!("{grown} kB more after four slow readers");
    // The engine may use its gigabyte; what is sent must not add to it.
    assert!(grown < 1_000_000, "{grown} kB");
    for stream in streams {
        assert_cut_off(stream);
    }
}

/// Reads what came before the connection was dropped: it must not look whole.
#[track_caller]
fn assert_cut_off(mut stream: TcpStream) {
    let mut raw = Vec::new();
    let _reset = stream.read_to_end(&mut raw);
    let head_end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&raw[..head_end]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    match head.split("content-length: ").nth(1) {
        Some(length) => {
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            assert!(raw.len() - head_end < length, "a cut answer looks whole");
        }
        None => assert!(
            !raw.ends_with(b"\r\n0\r\n\r\n"),
            "a cut answer looks whole: {:?}",
            String::from_utf8_lossy(&raw[raw.len().saturating_sub(400)..])
        ),
    }
}

/// Whether the store still holds its end of a connection.
fn is_open(stream: &TcpStream) -> bool {
    const ESTABLISHED: &str = "01";
    let ends = format!(
        "0100007F:{:04X} 0100007F:{:04X} {ESTABLISHED} ",
        stream.peer_addr().unwrap().port(),
        stream.local_addr().unwrap().port()
    );
    std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&ends)
}

#[test]
fn client_that_does_not_read_a_whole_answer_is_cut_off() {
    let place = Place::new(library_or_skip!()).with("http:\n  write_timeout: 1s\n");
    let store = place.start();
    let sql = "SELECT number, repeat('x', 100) FROM numbers(300000) FORMAT JSONCompact";
    let stream = store.ask("migrator", sql);
    assert!(is_open(&stream));
    store.until("the end of the connection", |_| !is_open(&stream));
    assert_cut_off(stream);
}

#[test]
fn garbage_and_oversized_requests_are_refused_and_the_store_lives() {
    let place = Place::new(library_or_skip!())
        .with("http:\n  query_max: 64KiB\n  insert_max: 1MiB\n  read_timeout: 1s\n");
    let store = place.start();
    store.sql("CREATE DATABASE d");
    store.sql("CREATE TABLE d.t (x String) ENGINE = MergeTree ORDER BY x");
    let raw = |bytes: &[u8]| {
        let mut stream = store.connect();
        let _reset = stream.write_all(bytes);
        let mut out = Vec::new();
        let _reset = stream.read_to_end(&mut out);
        crate::common::parse_answer(&out).map(|answer| answer.status)
    };
    assert_eq!(raw(b"\x16\x03\x01\x02\x00garbage\r\n\r\n"), Some(400));
    assert_eq!(raw(b"GET / HTTP/9.9\r\n\r\n"), Some(400));
    assert_eq!(
        raw(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n"),
        Some(400)
    );
    assert_eq!(
        raw(b"DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        Some(405)
    );
    assert_eq!(
        raw(b"GET /nosuch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        Some(404)
    );
    assert_eq!(
        raw(&[
            b"GET /?query=".to_vec(),
            vec![b'x'; 1 << 20],
            b" HTTP/1.1\r\n\r\n".to_vec()
        ]
        .concat()),
        Some(431)
    );
    let post = |query: &str, body: &[u8]| store.post("migrator", query, body);
    let long = format!("SELECT '{}'", "x".repeat(100_000));
    assert_eq!(post("", long.as_bytes()).code(), Some(223));
    assert_eq!(post("", &vec![b' '; 200_000]).code(), Some(223));
    assert_eq!(
        post("query=INSERT+INTO+d.t+FORMAT+LineAsString", &vec![b'x'; 2 << 20]).code(),
        Some(128)
    );
    assert_eq!(post("query=%zz", b"").code(), Some(36));
    assert_eq!(
        post("decompress=1&query=INSERT+INTO+d.t+FORMAT+TSV", &[7; 1000]).code(),
        Some(271)
    );
    // A body that never comes.
    let mut stream = store.connect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-Key: {}\r\nContent-Length: 100\r\nConnection: close\r\n\r\nSELECT",
        place.token("migrator")
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(crate::common::read_answer(&mut stream).unwrap().code(), Some(209));
    assert_eq!(store.sql("SELECT count() FROM d.t"), "0");
    assert!(store.stop().success());
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_work() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let library = library_or_skip!();
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.unwrap_or(20_000).min(20_000));
    if setrlimit(
        Resource::Nofile,
        Rlimit {
            current,
            maximum: limit.maximum,
        },
    )
    .is_err()
        || current < Some(12_000)
    {
        eprintln!("skipped: this machine allows too few open files (ulimit -Hn)");
        return;
    }
    let place = Place::new(library);
    let store = place.start();
    store.sql("SELECT 1");
    let before = store.memory_kb("VmRSS");
    let idle: Vec<_> = (0..10_000)
        .map(|n| {
            let mut stream = store.connect();
            if n % 2 == 0 {
                stream
                    .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nX-Half: ")
                    .unwrap();
            }
            stream
        })
        .collect();
    let started = std::time::Instant::now();
    assert_eq!(store.sql("SELECT 1"), "1");
    let grown = store.memory_kb("VmRSS") - before;
    println!(
        "{} idle connections: {grown} kB, SELECT 1 in {:?}",
        idle.len(),
        started.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(grown < 250_000, "{grown} kB");
}

#[test]
fn too_few_descriptors_are_said_and_leave_the_engine_its_share() {
    let mut place = Place::new(library_or_skip!());
    place.prefix = ["sh", "-c", "ulimit -n 512 && exec \"$0\" \"$@\""]
        .map(str::to_owned)
        .into();
    let store = place.start();
    let log = place.log();
    let said = log
        .lines()
        .filter(|line| line.contains("512 files may be open"))
        .count();
    assert_eq!(said, 1, "{log}");
    assert!(
        log.contains("128 connections") && log.contains("ulimit -n"),
        "{log}"
    );
    store.sql("CREATE DATABASE d");
    store.sql("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x");
    // As many clients as come; those beyond the number are told and closed.
    let mut idle: Vec<_> = (0..300).map(|_| store.connect()).collect();
    let mut answer = Vec::new();
    idle.pop().unwrap().read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 503 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // One of the first has its place still.
    let mut stream = idle.swap_remove(0);
    let sql = "INSERT INTO d.t SELECT number FROM numbers(10)";
    crate::common::send(&mut stream, &place.token("migrator"), sql);
    let answer = crate::common::read_answer(&mut stream).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(idle);
    store.until("a free place", |store| {
        store
            .place
            .try_post("migrator", "", b"SELECT 1")
            .is_some_and(|answer| answer.status == 200)
    });
    assert_eq!(store.sql("SELECT count() FROM d.t"), "10");
}

#[test]
fn acknowledged_batches_survive_kill_9() {
    let place = Place::new(library_or_skip!());
    let mut n = 0;
    let store = place.start();
    store.sql("CREATE DATABASE d");
    store.sql("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x");
    drop(store);
    for _ in 0..3 {
        let store = place.start();
        for _ in 0..20 {
            store.sql(&format!("INSERT INTO d.t SELECT number FROM numbers({n}, 100)"));
            n += 100;
        }
        store.kill_9();
    }
    let store = place.start();
    assert_eq!(
        store.sql("SELECT count(), uniqExact(x) FROM d.t"),
        format!("{n}\t{n}")
    );
}

#[test]
fn second_store_in_a_directory_or_on_a_port_is_one_clear_line() {
    let library = library_or_skip!();
    let place = Place::new(library.clone());
    let store = place.start();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ja4-clickhouse"))
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let library = library.display().to_string();
    let other = tempfile::tempdir().unwrap();
    let (code, text) = run(&[
        "run",
        "--data",
        other.path().to_str().unwrap(),
        "--listen",
        &place.address().unwrap(),
        "--lib",
        &library,
    ]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(
        text.contains("cannot listen on 127.0.0.1:") && text.contains("set listen"),
        "{text}"
    );
    let data = place.data.display().to_string();
    let (code, text) = run(&[
        "run",
        "--data",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--lib",
        &library,
    ]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("another ja4-clickhouse runs on"), "{text}");
    let (code, text) = run(&[
        "run",
        "--data",
        other.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--lib",
        "/nosuch.so",
    ]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(
        text.contains("/nosuch.so") && text.contains("fetch-libchdb"),
        "{text}"
    );
    let config = other.path().join("c.yaml");
    std::fs::write(&config, "lisen: 127.0.0.1:1\n").unwrap();
    let (code, text) = run(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("did you mean \"listen\""), "{text}");
    let (code, text) = run(&["run", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(store.sql("SELECT 1"), "1");
}

#[test]
fn stop_lets_running_statements_end() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    let mut stream = store.ask("migrator", "SELECT sleep(2)");
    store.until("a running statement", |store| store.running() == 1);
    assert!(store.stop().success(), "{}", place.log());
    assert_eq!(crate::common::read_answer(&mut stream).unwrap().text(), "0\n");
}

#[test]
fn stop_cuts_off_statements_that_do_not_end_and_none_of_them_looks_whole() {
    let place = Place::new(library_or_skip!()).with("http:\n  drain_timeout: 1s\n");
    let store = place.start();
    let silent = store.ask(
        "migrator",
        "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)",
    );
    let streaming = store.ask(
        "migrator",
        "SELECT number FROM numbers(1000000000000) FORMAT RowBinary",
    );
    store.until("running statements", |store| store.running() == 2);
    // The answer has begun.
    streaming.peek(&mut [0]).unwrap();
    assert!(store.stop().success(), "{}", place.log());
    assert_cut_off(streaming);
    let mut nothing = Vec::new();
    let mut silent = silent;
    let _reset = silent.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
}
