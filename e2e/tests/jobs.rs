//! What runs once and ends: the schema Job and the detector's `CronJob` against the embedded store, and the last word of each.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_e2e::store::{Store, count};
use ja4_e2e::{Case, JobEnd, Need, manifests, read_last_word, wait};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

#[test]
fn schema_and_detector_run_and_say_how_they_ended() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "schema_and_detector_run_and_say_how_they_ended",
        need,
        async |case| {
            let store = Store::start(&case, "node1").await?;
            let word = read_last_word(&case.last_word("job-name=schema").await?)?;
            ensure!(
                word["outcome"] == "succeeded" && word["detail"]["steps"].as_u64() > Some(10),
                "{word}"
            );

            case.image("ja4-detector")?;
            case.apply_manifest(manifests::DETECTOR, |object| {
                if object["kind"] == "CronJob" {
                    object["spec"]["schedule"] = json!("* * * * *");
                }
            })
            .await?;
            let job = wait::until("the schedule makes a Job", Duration::from_secs(90), async || {
                let jobs = case.api::<Job>().list(&ListParams::default()).await?.items;
                Ok(jobs
                    .into_iter()
                    .find(|job| job.name_any().starts_with("detector-")))
            })
            .await?;
            let name = job.name_any();
            ensure!(
                case.job_ended(&name).await? == JobEnd::Complete,
                "{}",
                case.last_word(&format!("job-name={name}")).await?
            );
            let word = read_last_word(&case.last_word(&format!("job-name={name}")).await?)?;
            ensure!(
                word["outcome"] == "succeeded" && word["detail"]["state"] == "learning",
                "{word}"
            );
            let cycles = store.rows("SELECT count() AS n FROM ja4_processing.ml_cycles WHERE error = ''")?;
            ensure!(count(&cycles[0]["n"]) > 0, "{cycles:?}");

            wrong_password_is_named(&case).await?;
            a_long_failure_is_cut_and_not_tried_again(&case).await?;
            its_own_deadline_comes_first(&case, &store).await
        },
    );
}

async fn wrong_password_is_named(case: &Case) -> anyhow::Result<()> {
    let word = case
        .failed_schema("wrong-password", &[], |spec| {
            spec["backoffLimit"] = json!(0);
            let items = &mut spec["template"]["spec"]["volumes"][1]["secret"]["items"];
            *items = json!([{"key": "writer", "path": "migrator"}]);
        })
        .await?;
    ensure!(word["reason"] == "WrongPassword", "{word}");
    Ok(())
}

async fn a_long_failure_is_cut_and_not_tried_again(case: &Case) -> anyhow::Result<()> {
    let setting = format!("--retention={}\"\u{202e}=3", "x".repeat(20_000));
    let word = case.failed_schema("long-failure", &[&setting], |_| {}).await?;
    ensure!(word["reason"] == "Refused", "{word}");
    let message = word["message"].as_str().context("it has a message")?;
    ensure!(
        message.len() > 2000 && message.contains("http_logs_days"),
        "the remedy is cut off: {message}"
    );
    // Exit status 2: the Job failed at the first pod, though it may have six more.
    let pods = case.pods("job-name=long-failure").await?;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    Ok(())
}

async fn its_own_deadline_comes_first(case: &Case, store: &Store) -> anyhow::Result<()> {
    // Somebody else migrates and takes his time.
    store.write(
        "migrator",
        "INSERT INTO ja4_processing.schema_lock (owner, counter, lease_ms) VALUES ('somebody', 1, 600000)",
    )?;
    // Something to do, for which it needs the lock.
    let more = ["--deadline=3s", "--retention=http_logs_days=31"];
    let word = case
        .failed_schema("own-deadline", &more, |spec| {
            spec["backoffLimit"] = json!(0);
            spec["activeDeadlineSeconds"] = json!(60);
            let args = spec["template"]["spec"]["containers"][0]["args"].as_array_mut();
            if let Some(args) = args {
                args.retain(|arg| arg != "--deadline=280s");
            }
        })
        .await?;
    ensure!(word["reason"] == "DeadlineExceeded", "{word}");
    Ok(())
}
