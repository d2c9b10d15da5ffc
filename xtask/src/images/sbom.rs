//! Pure: a list of all that is in an image, as SPDX 2.3 JSON, from cargo's resolved graph and the shared libraries.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::libraries::Library;

/// What is not in cargo's graph: a library, a page's script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Where it comes from, as a package URL.
    pub(crate) purl: Option<String>,
    pub(crate) license: Option<String>,
}

/// What the document says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Origin<'a> {
    /// The image's name.
    pub(crate) component: &'a str,
    pub(crate) version: &'a str,
    /// Commit of the sources.
    pub(crate) revision: &'a str,
    /// RFC 3339.
    pub(crate) created: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of SPDX")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    download_location: &'static str,
    files_analyzed: bool,
    license_declared: String,
    license_concluded: &'static str,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<Reference>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of SPDX")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of SPDX")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The document of one image. `metadata` is all of `cargo metadata` for the image's platform, `package` the crate of its program.
///
/// # Errors
/// When cargo's answer does not have the package or its graph.
pub(crate) fn document(
    origin: &Origin<'_>,
    metadata: &Value,
    package: &str,
    parts: &BTreeSet<Part>,
) -> anyhow::Result<Vec<u8>> {
    let graph = Graph::read(metadata)?;
    let root = graph.id_of(package)?;
    let reached = graph.reached(root);
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let mut relationships = BTreeSet::from([relationship(
        "SPDXRef-DOCUMENT",
        "DESCRIBES",
        &graph.spdx_id(root),
    )]);
    for id in &reached {
        let found = &graph.packages[id];
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        let is_ours = found["source"].is_null();
        let part = Part {
            name: text("name").to_owned(),
            version: text("version").to_owned(),
            // What is no package of a registry has no package URL.
            purl: (!is_ours).then(|| format!("pkg:cargo/{}@{}", text("name"), text("version"))),
            // An old way to write OR.
            license: found["license"]
                .as_str()
                .map(|license| license.replace('/', " OR ")),
        };
        packages.insert(graph.spdx_id(id), entry(&graph.spdx_id(id), &part));
        for dependency in graph.dependencies(id) {
            relationships.insert(relationship(
                &graph.spdx_id(id),
                "DEPENDS_ON",
                &graph.spdx_id(dependency),
            ));
        }
    }
    for part in parts {
        let id = format!(
            "SPDXRef-{}",
            identifier(&format!("part-{}-{}", part.name, part.version))
        );
        packages.insert(id.clone(), entry(&id, part));
        relationships.insert(relationship(&graph.spdx_id(root), "DEPENDS_ON", &id));
    }
    let document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: origin.component.to_owned(),
        document_namespace: format!(
            "https://spdx.org/spdxdocs/{}-{}-{}",
            origin.component, origin.version, origin.revision
        ),
        creation_info: CreationInfo {
            created: origin.created.to_owned(),
            creators: ["Tool: ja4-platform xtask"],
        },
        packages: packages.into_values().collect(),
        relationships: relationships.into_iter().collect(),
    };
    Ok(serde_json::to_vec_pretty(&document)?)
}

/// Debian's name of a library, or the file's own.
pub(crate) fn part_of(library: &Library) -> Part {
    match &library.package {
        Some((name, version)) => Part {
            name: name.clone(),
            version: version.clone(),
            purl: Some(format!(
                "pkg:deb/debian/{name}@{}",
                version
                    .replace('+', "%2B")
                    .replace('~', "%7E")
                    .replace(':', "%3A")
            )),
            license: None,
        },
        None => Part {
            name: library.path.display().to_string(),
            version: "unknown".to_owned(),
            purl: None,
            license: None,
        },
    }
}

/// The packages that a page's lock file (npm, version 3) puts into what is built.
pub(crate) fn parts_of_pages(lock: &Value) -> BTreeSet<Part> {
    let packages = lock["packages"].as_object().into_iter().flatten();
    packages
        .filter(|(path, package)| !path.is_empty() && package["dev"] != true && package["optional"] != true)
        .filter_map(|(path, package)| {
            let name = path.rsplit("node_modules/").next()?;
            let version = package["version"].as_str()?;
            Some(Part {
                name: name.to_owned(),
                version: version.to_owned(),
                purl: Some(format!("pkg:npm/{}@{version}", name.replace('@', "%40"))),
                license: package["license"].as_str().map(str::to_owned),
            })
        })
        .collect()
}

/// Cargo's packages and which of them each links.
struct Graph<'a> {
    packages: BTreeMap<&'a str, &'a Value>,
    edges: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> anyhow::Result<Self> {
        let list = |value: &'a Value| value.as_array().map_or(&[][..], Vec::as_slice);
        let packages = list(&metadata["packages"])
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package)))
            .collect();
        let edges: BTreeMap<_, _> = list(&metadata["resolve"]["nodes"])
            .iter()
            .filter_map(|node| {
                let linked = list(&node["deps"]).iter().filter(|dep| {
                    // `null` is a normal dependency; the others are for builds and tests.
                    list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
                });
                let linked = linked.filter_map(|dep| dep["pkg"].as_str()).collect();
                Some((node["id"].as_str()?, linked))
            })
            .collect();
        if edges.is_empty() {
            anyhow::bail!("cargo metadata has no resolved graph");
        }
        Ok(Self { packages, edges })
    }

    fn id_of(&self, name: &str) -> anyhow::Result<&'a str> {
        self.packages
            .iter()
            .find(|(_, package)| package["name"] == name && package["source"].is_null())
            .map(|(id, _)| *id)
            .ok_or_else(|| anyhow::anyhow!("cargo metadata has no package {name}"))
    }

    fn dependencies(&self, id: &str) -> impl Iterator<Item = &'a str> {
        self.edges.get(id).into_iter().flatten().copied()
    }

    fn reached(&self, root: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![root];
        while let Some(id) = next.pop() {
            if reached.insert(id) {
                next.extend(self.dependencies(id));
            }
        }
        reached
    }

    fn spdx_id(&self, id: &str) -> String {
        let package = self.packages.get(id).copied().unwrap_or(&Value::Null);
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        format!(
            "SPDXRef-{}",
            identifier(&format!("crate-{}-{}", text("name"), text("version")))
        )
    }
}

/// SPDX allows letters, digits, dots and dashes in an identifier.
fn identifier(text: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    text.chars().map(keep).collect()
}

fn entry(id: &str, part: &Part) -> Package {
    Package {
        id: id.to_owned(),
        name: part.name.clone(),
        version_info: part.version.clone(),
        download_location: "NOASSERTION",
        files_analyzed: false,
        license_declared: part.license.clone().unwrap_or_else(|| "NOASSERTION".to_owned()),
        license_concluded: "NOASSERTION",
        copyright_text: "NOASSERTION",
        external_refs: part
            .purl
            .iter()
            .map(|purl| Reference {
                reference_category: "PACKAGE-MANAGER",
                reference_type: "purl",
                reference_locator: purl.clone(),
            })
            .collect(),
    }
}

fn relationship(from: &str, kind: &'static str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind,
        related_spdx_element: to.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        component: "ja4-thing",
        version: "0.1.0",
        revision: "abc",
        created: "2023-11-14T22:13:20Z",
    };

    fn metadata() -> Value {
        let registry = "registry+somewhere";
        serde_json::json!({
            "packages": [
                {"id": "a", "name": "thing", "version": "0.1.0", "license": "Apache-2.0", "source": null},
                {"id": "b", "name": "used", "version": "1.0.0", "license": "MIT/Apache-2.0", "source": registry},
                {"id": "c", "name": "for-tests", "version": "1.0.0", "license": "MIT", "source": registry},
                {"id": "d", "name": "used-by-used", "version": "2.0.0", "license": null, "source": registry},
            ],
            "resolve": {"nodes": [
                {"id": "a", "deps": [
                    {"pkg": "b", "dep_kinds": [{"kind": null}]},
                    {"pkg": "c", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "b", "deps": [{"pkg": "d", "dep_kinds": [{"kind": "build"}, {"kind": null}]}]},
                {"id": "c", "deps": []},
                {"id": "d", "deps": []},
            ]},
        })
    }

    #[test]
    fn all_that_is_linked_is_listed_and_nothing_else() {
        let libc = part_of(&Library {
            path: "/lib/libc.so.6".into(),
            package: Some(("libc6".to_owned(), "2.36-9+deb12u13".to_owned())),
        });
        let bytes = document(&ORIGIN, &metadata(), "thing", &BTreeSet::from([libc])).unwrap();
        insta::assert_snapshot!("sbom", String::from_utf8(bytes).unwrap());
    }

    #[test]
    fn an_unknown_package_is_an_error() {
        let error = document(&ORIGIN, &metadata(), "other", &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("other"), "{error}");
    }

    #[test]
    fn packages_of_pages_are_those_that_are_built_in() {
        let lock = serde_json::json!({"packages": {
            "": {"name": "pages"},
            "node_modules/@scope/shown": {"version": "1.0.0", "license": "MIT"},
            "node_modules/tester": {"version": "2.0.0", "dev": true},
        }});
        let parts: Vec<_> = parts_of_pages(&lock)
            .into_iter()
            .map(|part| part.purl.unwrap())
            .collect();
        assert_eq!(parts, ["pkg:npm/%40scope/shown@1.0.0"]);
    }
}
