//! What `ja4-operator validate` accepts and refuses is what the API server accepts and refuses, over thousands of specs; and what is
//! accepted stands for children that the API server takes.

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, Need};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use operator_api::Ja4Pipeline;
use operator_manifests::{Apis, Facts, Observed, desired, validate};
use serde_json::{Value, json};

/// Specs that are compared.
const SPECS: usize = 2400;
/// Accepted specs whose children are sent, too.
const WITH_CHILDREN: usize = 60;

#[test]
fn validate_says_what_the_cluster_says() {
    ja4_e2e::test("validate_says_what_the_cluster_says", Need::api(), async |case| {
        case.install_crd().await?;
        let schema =
            serde_json::to_value(operator_api::crd())?["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
                .clone();
        let mut places = Vec::new();
        fields(&schema["properties"]["spec"], "", &mut places);
        let mut random = Random(7);
        let (mut n_accepted, mut n_children) = (0, 0);
        for i in 0..SPECS {
            let spec = spec(&mut random, &places);
            let object = json!({
                "apiVersion": "ja4platform.io/v1alpha1", "kind": "Ja4Pipeline",
                "metadata": {"name": name(&mut random), "namespace": case.namespace},
                "spec": spec,
            });
            let ours = operator_api::check(&object);
            let theirs = dry_run(&case, &object).await?;
            ensure!(
                ours.is_ok() == theirs.is_ok(),
                "spec {i} is judged differently\n{object}\nours: {ours:?}\nthe cluster's: {theirs:?}"
            );
            let Ok(mut pipeline) = ours else { continue };
            n_accepted += 1;
            // Not every accepted spec: each has thirty children.
            if n_children < WITH_CHILDREN && i % 5 == 0 {
                pipeline.metadata.namespace = Some(case.namespace.clone());
                pipeline.metadata.uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
                n_children += usize::from(children_are_taken(&case, &pipeline).await?);
            }
        }
        println!("{SPECS} specs, {n_accepted} accepted, children of {n_children} sent");
        ensure!(
            n_accepted > SPECS / 5 && n_accepted < SPECS * 4 / 5,
            "{n_accepted} of {SPECS} are accepted: the test says little"
        );
        ensure!(
            n_children >= WITH_CHILDREN / 2,
            "children of {n_children} specs only"
        );
        what_may_not_change(&case).await
    });
}

async fn dry_run(case: &Case, object: &Value) -> anyhow::Result<Result<(), String>> {
    let api: Api<Ja4Pipeline> = case.api();
    let name = object["metadata"]["name"].as_str().unwrap_or("x");
    let mut params = PatchParams::apply("ja4-e2e").dry_run();
    params.field_validation = Some(ValidationDirective::Strict);
    match api.patch(name, &params, &Patch::Apply(object)).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        // What the API server took and we cannot read would be a fault of ours.
        Err(error) => Err(error).context("the API server's answer"),
    }
}

/// True if the pipeline could be built; then the API server takes each object.
async fn children_are_taken(case: &Case, pipeline: &Ja4Pipeline) -> anyhow::Result<bool> {
    let facts = Facts {
        operator_version: env!("CARGO_PKG_VERSION").to_owned(),
        registry: "localhost".to_owned(),
        runbook_base: String::new(),
        apis: Apis::default(),
        ports: Vec::new(),
    };
    let Ok(valid) = validate(pipeline, &facts) else {
        return Ok(false);
    };
    for object in desired(&valid, &Observed::default()) {
        let (group, version) = object
            .api_version()
            .split_once('/')
            .unwrap_or_else(|| ("", object.api_version()));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object.kind()));
        let api: Api<DynamicObject> = Api::namespaced_with(case.client.clone(), &case.namespace, &resource);
        let mut params = PatchParams::apply("ja4-e2e").dry_run();
        params.field_validation = Some(ValidationDirective::Strict);
        api.patch(object.name(), &params, &Patch::Apply(&object.object))
            .await
            .with_context(|| format!("{} {} of\n{}", object.kind(), object.name(), json!(pipeline.spec)))?;
    }
    Ok(true)
}

/// Rules about what may not change, on a resource that exists.
async fn what_may_not_change(case: &Case) -> anyhow::Result<()> {
    let old = json!({
        "apiVersion": "ja4platform.io/v1alpha1", "kind": "Ja4Pipeline",
        "metadata": {"name": "kept", "namespace": case.namespace},
        "spec": {"store": {"embedded": {"volume": {"size": "10Gi", "storageClassName": "a"}}}},
    });
    let api: Api<Ja4Pipeline> = case.api();
    api.patch(
        "kept",
        &PatchParams::apply("ja4-e2e").force(),
        &Patch::Apply(&old),
    )
    .await?;
    let user = |name: &str| json!({"user": name, "password": {"name": "users", "key": name}});
    let external = json!({"external": {"url": "https://c:8443", "users": {
        "writer": user("w"), "detector": user("d"), "dashboard": user("p"), "migrator": user("m"),
    }}});
    for (store, correlator, is_allowed) in [
        (
            json!({"embedded": {"volume": {"size": "20Gi", "storageClassName": "a"}}}),
            json!({}),
            true,
        ),
        (
            json!({"embedded": {"volume": {"size": "9Gi", "storageClassName": "a"}}}),
            json!({}),
            false,
        ),
        (
            json!({"embedded": {"volume": {"size": "10Gi", "storageClassName": "b"}}}),
            json!({}),
            false,
        ),
        (
            json!({"embedded": {"volume": {"size": "10Gi"}}}),
            json!({}),
            false,
        ),
        (external, json!({}), false),
        (old["spec"]["store"].clone(), json!({"placement": "Node"}), false),
        (
            old["spec"]["store"].clone(),
            json!({"placement": "Node", "suspend": true}),
            false,
        ),
        (
            old["spec"]["store"].clone(),
            json!({"spool": {"size": "1Gi"}}),
            false,
        ),
    ] {
        let mut new = old.clone();
        new["spec"]["store"] = store;
        new["spec"]["correlator"] = correlator;
        let ours = operator_api::check_update(&new, &old);
        let mut params = PatchParams::apply("ja4-e2e").dry_run();
        params.field_validation = Some(ValidationDirective::Strict);
        let theirs = api.patch("kept", &params, &Patch::Apply(&new)).await;
        ensure!(ours.is_ok() == is_allowed, "{new}: {ours:?}");
        ensure!(theirs.is_ok() == is_allowed, "{new}: {theirs:?}");
    }
    Ok(())
}

// ---- specs ----

/// A place in the spec and its schema.
struct Place {
    path: String,
    schema: Value,
}

/// Every field, and those of what is in lists.
fn fields(schema: &Value, path: &str, into: &mut Vec<Place>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}/{name}")
        };
        into.push(Place {
            path: path.clone(),
            schema: field.clone(),
        });
        fields(field, &path, into);
        if field["items"]["properties"].is_object() {
            fields(&field["items"], &format!("{path}/0"), into);
        }
    }
}

/// A valid spec, changed in none to three places.
fn spec(random: &mut Random, places: &[Place]) -> Value {
    let user = |name: &str| json!({"user": name, "password": {"name": "users", "key": name}});
    let mut spec = match random.below(3) {
        0 => json!({"store": {"external": {"url": "https://c:8443", "users": {
            "writer": user("w"), "detector": user("d"), "dashboard": user("p"), "migrator": user("m"),
        }}}}),
        1 => json!({
            "store": {"embedded": {"volume": {"size": "10Gi"}}},
            "detectors": [{"name": "main"}],
            "overrides": [{"component": "Sensor"}],
            "sources": {"ingest": [{"name": "web", "token": {"name": "web", "key": "token"}}]},
        }),
        _ => json!({"store": {"embedded": {}}, "correlator": {"placement": "Node"}}),
    };
    for _ in 0..random.below(4) {
        let place = &places[random.below(places.len())];
        let value = value(random, &place.schema, 0);
        put(&mut spec, &place.path, value);
    }
    spec
}

fn put(spec: &mut Value, path: &str, value: Value) {
    let mut at = spec;
    for part in path.split('/') {
        if let Ok(index) = part.parse::<usize>() {
            if !at.is_array() {
                *at = json!([{}]);
            }
            let items = at.as_array_mut().expect("it is a list now");
            while items.len() <= index {
                items.push(json!({}));
            }
            at = &mut items[index];
        } else {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[part];
        }
    }
    *at = value;
}

/// Texts that fit some pattern and break others.
const TEXTS: [&str; 44] = [
    "",
    "a",
    "main",
    "shop-1",
    "Shop",
    "-a",
    "a-",
    "a.b",
    "a..b",
    "a_b",
    "auto",
    "eth0",
    "eth0:1",
    "10.0.0.0/8",
    "10.0.0.0/33",
    "10.0.0.1/8",
    "fd00::/8",
    "::/0",
    "10.0.0/8",
    "1",
    "0",
    "64Mi",
    "2Gi",
    "1.5Gi",
    "1e3",
    "500m",
    "100",
    "1Ki",
    "4Mi",
    "2Ti",
    "*/5 * * * *",
    "* * * *",
    "60 * * * *",
    "0 3 * * MON",
    "https://c:8443",
    "http://c",
    "ftp://c",
    "https://c/path",
    "0.1.0",
    "1.2",
    "0.1.0-rc.1",
    "true",
    "example.org/team",
    "\u{202e}x",
];

/// A value for a schema: most often one that fits.
fn value(random: &mut Random, schema: &Value, depth: usize) -> Value {
    match random.below(20) {
        0 => return Value::Null,
        1 => return json!("text"),
        2 => return json!(17),
        3 => return json!({"unknown": true}),
        _ => {}
    }
    if let Some(words) = schema["enum"].as_array() {
        return if random.below(6) == 0 {
            json!("Nonsense")
        } else {
            words[random.below(words.len())].clone()
        };
    }
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => json!(random.below(2) == 0),
        "integer" => {
            let least = schema["minimum"].as_f64().unwrap_or(0.0);
            let most = schema["maximum"].as_f64().unwrap_or(100.0);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "bounds of the schema are whole numbers"
            )]
            let candidates = [
                least as i64,
                most as i64,
                (least + 1.0) as i64,
                least as i64 - 1,
                most as i64 + 1,
                0,
            ];
            json!(candidates[random.below(candidates.len())])
        }
        "string" => match random.below(12) {
            0 => {
                let most = usize::try_from(schema["maxLength"].as_u64().unwrap_or(100))
                    .unwrap_or(100)
                    .min(5000);
                json!("a".repeat(most + random.below(2)))
            }
            _ => json!(TEXTS[random.below(TEXTS.len())]),
        },
        "array" => {
            let most = usize::try_from(schema["maxItems"].as_u64().unwrap_or(4)).unwrap_or(4);
            let n = [0, 1, 1, 2, 3, most, most + 1][random.below(7)].min(40);
            if depth > 2 {
                return json!([]);
            }
            Value::Array(
                (0..n)
                    .map(|_| value(random, &schema["items"], depth + 1))
                    .collect(),
            )
        }
        "object" if schema["additionalProperties"].is_object() => {
            let n = [1, 1, 2, 17][random.below(4)];
            let keys = (0..n).map(|i| {
                let key = TEXTS[random.below(TEXTS.len())];
                let key = if n > 2 { format!("k{i}") } else { key.to_owned() };
                (key, value(random, &schema["additionalProperties"], depth + 1))
            });
            Value::Object(keys.collect())
        }
        "object" => {
            let mut fields = serde_json::Map::new();
            let required: Vec<&str> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let is_wanted = if required.contains(&name.as_str()) {
                    random.below(12) > 0
                } else {
                    random.below(3) == 0
                };
                if is_wanted && depth < 4 {
                    fields.insert(name.clone(), value(random, field, depth + 1));
                }
            }
            Value::Object(fields)
        }
        _ => Value::Null,
    }
}

fn name(random: &mut Random) -> String {
    const NAMES: [&str; 6] = [
        "shop",
        "a",
        "shop-1",
        "1shop",
        "a.b",
        "abcdefghijklmnopqrstuvwxyz-12345",
    ];
    let pick = random.below(24);
    NAMES.get(pick).copied().unwrap_or("shop").to_owned()
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        // Numerical Recipes' constants; the low bits are weak and not used.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % n.max(1)
    }
}
