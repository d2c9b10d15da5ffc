//! The official `clickhouse` crate works unchanged: every operation in four modes (compression × validation).

use crate::common::{Place, Store, library_or_skip};
use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Event {
    id: u64,
    name: String,
    tags: Vec<String>,
    score: Option<f64>,
    raw: [u8; 4],
}

fn event(id: u64) -> Event {
    Event {
        id,
        name: format!("it's \"{id}\"\n\n\t\\ \0 é"),
        tags: (0..id % 4).map(|n| format!("t\n\n{n}")).collect(),
        score: (!id.is_multiple_of(3)).then_some(id as f64 / 3.0),
        raw: 0x0a0a_0a0a_u32
            .wrapping_add(u32::try_from(id % 256).unwrap())
            .to_le_bytes(),
    }
}

fn client(store: &Store<'_>, compression: Compression, validation: bool) -> Client {
    Client::default()
        .with_url(store.url())
        .with_user("migrator")
        .with_password(store.place.token("migrator"))
        .with_database("d")
        .with_compression(compression)
        .with_validation(validation)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn everything(client: &Client) {
    client.query("DROP TABLE IF EXISTS ev").execute().await.unwrap();
    client
        .query("CREATE TABLE ev (id UInt64, name String, tags Array(String), score Nullable(Float64), raw FixedString(4)) ENGINE = MergeTree ORDER BY id")
        .execute()
        .await
        .unwrap();
    let mut insert = client.insert::<Event>("ev").await.unwrap();
    for id in 0..1000 {
        insert.write(&event(id)).await.unwrap();
    }
    insert.end().await.unwrap();
    let rows = client
        .query("SELECT ?fields FROM ev ORDER BY id")
        .fetch_all::<Event>()
        .await
        .unwrap();
    assert_eq!(rows, (0..1000).map(event).collect::<Vec<_>>());

    // Dropped before its end: nothing is inserted.
    let mut insert = client.insert::<Event>("ev").await.unwrap();
    for id in 5000..5100 {
        insert.write(&event(id)).await.unwrap();
    }
    drop(insert);

    let mut inserter = client.inserter::<Event>("ev").with_max_rows(100);
    for id in 1000..1300 {
        inserter.write(&event(id)).await.unwrap();
        inserter.commit().await.unwrap();
    }
    inserter.end().await.unwrap();
    let count = |client: &Client| {
        let query = client.query("SELECT count() FROM ev");
        async move { query.fetch_one::<u64>().await.unwrap() }
    };
    assert_eq!(count(client).await, 1300);

    let bound = client
        .query("SELECT name FROM ev WHERE id = ? AND name = ?")
        .bind(7)
        .bind(event(7).name);
    assert_eq!(bound.fetch_one::<String>().await.unwrap(), event(7).name);
    let given = client
        .query(
            "SELECT count() FROM {table:Identifier} WHERE id IN {ids:Array(UInt64)} AND name = {name:String}",
        )
        .param("table", "ev")
        .param("ids", vec![7_u64, 8, 9])
        .param("name", event(8).name);
    assert_eq!(given.fetch_one::<u64>().await.unwrap(), 1);
    assert_eq!(
        client
            .query("SELECT id FROM ev WHERE id > 99999")
            .fetch_optional::<u64>()
            .await
            .unwrap(),
        None
    );

    let json = client
        .query("SELECT id FROM ev WHERE id < 3 ORDER BY id")
        .fetch_bytes("JSONEachRow")
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(&json[..], b"{\"id\":0}\n{\"id\":1}\n{\"id\":2}\n");
    let native = client
        .query("SELECT * FROM ev ORDER BY id")
        .fetch_bytes("Native")
        .unwrap()
        .collect()
        .await
        .unwrap();
    client
        .query("CREATE TABLE IF NOT EXISTS copy AS ev")
        .execute()
        .await
        .unwrap();
    client.query("TRUNCATE TABLE copy").execute().await.unwrap();
    let mut insert = client.insert_formatted_with("INSERT INTO copy FORMAT Native");
    insert.send(native.clone()).await.unwrap();
    insert.end().await.unwrap();
    let difference = "SELECT count() FROM (SELECT * FROM ev EXCEPT SELECT * FROM copy)";
    assert_eq!(client.query(difference).fetch_one::<u64>().await.unwrap(), 0);
    assert_eq!(
        client
            .query("SELECT count() FROM copy")
            .fetch_one::<u64>()
            .await
            .unwrap(),
        1300
    );

    // More rows than one chunk of the engine.
    let mut cursor = client
        .query("SELECT number, toString(number) FROM numbers(300000)")
        .fetch::<(u64, String)>()
        .unwrap();
    let mut n = 0;
    while let Some((number, text)) = cursor.next().await.unwrap() {
        assert_eq!((number, text), (n, n.to_string()));
        n += 1;
    }
    assert_eq!(n, 300_000);

    // Errors, and a good statement after each.
    let error = client
        .query("SELECT * FROM nosuch")
        .fetch_all::<u64>()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("UNKNOWN_TABLE"), "{error}");
    let error = client
        .query("SELECT 1")
        .with_setting("nosuch", "1")
        .fetch_one::<u8>()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("UNKNOWN_SETTING"), "{error}");
    let error = client
        .query("DROP TABLE ev")
        .with_setting("readonly", "1")
        .execute()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("READONLY"), "{error}");
    let sql = "SELECT number + throwIf(number = 2500000, 'boom') FROM numbers(3000000)";
    let mut cursor = client
        .query(sql)
        .with_setting("max_threads", "1")
        .fetch::<u64>()
        .unwrap();
    let mut n = 0_u64;
    let error = loop {
        match cursor.next().await {
            Ok(Some(_)) => n += 1,
            Ok(None) => panic!("an answer that broke off looked whole after {n} rows"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(n > 65_536 && error.contains("boom"), "{n} rows, {error}");
    assert_eq!(count(client).await, 1300);
}

#[test]
fn crate_works_in_all_modes() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    store.sql("CREATE DATABASE d");
    let runtime = runtime();
    for compression in [Compression::None, Compression::Lz4] {
        for validation in [true, false] {
            println!("compression {compression:?}, validation {validation}");
            runtime.block_on(everything(&client(&store, compression, validation)));
        }
    }
}

#[test]
fn wrong_token_and_poison_rows_are_errors_of_the_crate() {
    let place = Place::new(library_or_skip!());
    let store = place.start();
    store.sql("CREATE DATABASE d");
    store.sql("CREATE TABLE d.t (x UInt32) ENGINE = MergeTree PARTITION BY x ORDER BY x");
    runtime().block_on(async {
        let good = client(&store, Compression::None, true);
        let error = good
            .clone()
            .with_password("wrong")
            .query("SELECT 1")
            .fetch_one::<u8>()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("AUTHENTICATION_FAILED"), "{error}");
        // A big batch that the engine refuses while it is still being sent: the reason reaches the client.
        let mut insert = good.insert_formatted_with("INSERT INTO t FORMAT TSV");
        let mut sent = Ok(());
        for _ in 0..200 {
            sent = insert.send("not a number\n".repeat(10_000).into()).await;
            if sent.is_err() {
                break;
            }
        }
        let error = match sent {
            Ok(()) => insert.end().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("CANNOT_PARSE"), "{error}");
        let error = good.query("SELECT x FROM t").fetch_all::<String>().await;
        assert!(error.is_err() || error.unwrap().is_empty());
    });
    assert_eq!(store.sql("SELECT count() FROM d.t"), "0");
}
