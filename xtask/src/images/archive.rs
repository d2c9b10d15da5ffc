//! Pure: files to the bytes of an OCI image archive, the same bytes for the same files.
//!
//! The archive is an OCI image layout that also holds Docker's `manifest.json`, so that `ctr images import`, `docker load`,
//! `podman load` and `kind load image-archive` take it. Layers are not compressed: all of them take that, a registry
//! compresses on push, and the bytes do not depend on a compressor's version.
//! Entries are sorted, their times are one given time, and nothing of the machine gets in.
//! Source: OCI image-spec 1.1 (layout, manifest, config), Docker image-spec 1.2 (`manifest.json`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::web::hex;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_executable: bool,
    /// Whether it may open packet sockets, whoever runs it: the file capability `cap_net_raw+ep`.
    pub(crate) may_capture: bool,
}

impl File {
    /// A file that is only read.
    pub(crate) fn data(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            is_executable: false,
            may_capture: false,
        }
    }

    /// A program or a library.
    pub(crate) fn executable(bytes: Vec<u8>) -> Self {
        Self {
            is_executable: true,
            ..Self::data(bytes)
        }
    }
}

/// Files by their path in the image, without a leading slash.
pub(crate) type Layer = BTreeMap<String, File>;

/// An image, complete.
#[derive(Debug)]
pub(crate) struct Image {
    /// Such as `localhost/ja4-sensor:0.1.0`.
    pub(crate) reference: String,
    /// As Go and OCI call it: `amd64`, `arm64`.
    pub(crate) architecture: &'static str,
    /// Seconds since 1970: of every file, and of the image itself.
    pub(crate) created: i64,
    /// The same as RFC 3339.
    pub(crate) created_text: String,
    /// `uid:gid`.
    pub(crate) user: &'static str,
    pub(crate) entrypoint: String,
    pub(crate) environment: Vec<String>,
    pub(crate) labels: BTreeMap<&'static str, String>,
    /// What changes least comes first.
    pub(crate) layers: Vec<Layer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the image specification")]
struct Config<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    config: Execution<'a>,
    rootfs: RootFs,
    history: Vec<Step<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution<'a> {
    user: &'static str,
    env: &'a [String],
    entrypoint: [&'a str; 1],
    working_dir: &'static str,
    labels: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Serialize)]
struct Step<'a> {
    created: &'a str,
    created_by: &'static str,
}

/// What `docker load` reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest<'a> {
    config: String,
    repo_tags: [&'a str; 1],
    layers: Vec<String>,
}

/// Writes an image's archive.
///
/// # Errors
/// When `out` does not take it.
pub(crate) fn write(image: &Image, out: &mut impl Write) -> io::Result<()> {
    // Each layer is written twice, for its digest and to its place, so that it is never in memory as a whole.
    let layers = image.layers.iter().map(|layer| measure(image, layer));
    let layers: Vec<Digest> = layers.collect::<io::Result<_>>()?;
    let config = config(image, &layers)?;
    let manifest = manifest(&config, &layers)?;
    let index = index(image, &manifest)?;
    let docker = docker_manifest(image, &config, &layers)?;

    let mut archive = tar::Builder::new(out);
    // Docker's readers want the folders; none of them has a time of its own.
    for folder in ["blobs/", "blobs/sha256/"] {
        archive.append(
            &header(folder, tar::EntryType::Directory, 0o755, 0, 0)?,
            io::empty(),
        )?;
    }
    let mut append = |name: &str, bytes: &[u8]| -> io::Result<()> {
        archive.append(
            &header(name, tar::EntryType::Regular, 0o644, bytes.len() as u64, 0)?,
            bytes,
        )
    };
    append("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append("index.json", &index)?;
    append("manifest.json", &docker)?;
    append(&Digest::of(&manifest).blob(), &manifest)?;
    append(&Digest::of(&config).blob(), &config)?;
    let mut written = BTreeSet::new();
    for (layer, digest) in image.layers.iter().zip(&layers) {
        if written.insert(&digest.hex) {
            let header = header(&digest.blob(), tar::EntryType::Regular, 0o644, digest.size, 0)?;
            let out = archive.get_mut();
            out.write_all(header.as_bytes())?;
            write_layer(image, layer, out)?;
            // A layer is a whole number of blocks already: it needs no padding.
        }
    }
    archive.into_inner()?.flush()
}

/// Name of a blob and its size.
struct Digest {
    hex: String,
    size: u64,
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        let mut hash = Hashed::default();
        hash.add(bytes);
        hash.finish()
    }

    fn blob(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self, media_type: &'static str) -> Descriptor {
        Descriptor {
            media_type,
            digest: format!("sha256:{}", self.hex),
            size: self.size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

#[derive(Default)]
struct Hashed {
    hash: Sha256,
    size: u64,
}

impl Hashed {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> Digest {
        Digest {
            hex: hex(&self.hash.finalize()),
            size: self.size,
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn measure(image: &Image, layer: &Layer) -> io::Result<Digest> {
    let mut hash = Hashed::default();
    write_layer(image, layer, &mut hash)?;
    Ok(hash.finish())
}

/// The folders of a layer's files and the files, each sorted. All belong to root.
fn write_layer(image: &Image, layer: &Layer, out: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut folders = BTreeSet::new();
    for path in layer.keys() {
        folders.extend(path.match_indices('/').map(|(end, _)| &path[..=end]));
    }
    for folder in folders {
        let mode = if folder == "tmp/" { 0o1777 } else { 0o755 };
        let header = header(folder, tar::EntryType::Directory, mode, 0, image.created)?;
        archive.append(&header, io::empty())?;
    }
    for (path, file) in layer {
        if path.ends_with('/') {
            // A folder that is there for itself.
            continue;
        }
        if file.may_capture {
            let record = pax_record("SCHILY.xattr.security.capability", &NET_RAW_EP);
            let size = record.len() as u64;
            let name = format!("PaxHeaders/{}", path.rsplit('/').next().unwrap_or(path));
            let header = header(&name, tar::EntryType::XHeader, 0o644, size, image.created)?;
            archive.append(&header, &record[..])?;
        }
        let mode = if file.is_executable { 0o755 } else { 0o644 };
        let size = file.bytes.len() as u64;
        let header = header(path, tar::EntryType::Regular, mode, size, image.created)?;
        archive.append(&header, &file.bytes[..])?;
    }
    archive.into_inner().map(drop)
}

/// A `vfs_cap_data` of revision 2, little endian: the effective flag, then permitted = `CAP_NET_RAW` (bit 13), nothing
/// inheritable. Source: `linux/capability.h`.
const NET_RAW_EP: [u8; 20] = {
    let mut value = [0; 20];
    value[0] = 0x01;
    value[3] = 0x02;
    value[5] = 0x20;
    value
};

/// One record of an extended header: its own length in decimal, a key, a value, a line feed. Source: POSIX pax.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn header(path: &str, kind: tar::EntryType, mode: u32, size: u64, mtime: i64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime.unsigned_abs());
    header.set_cksum();
    Ok(header)
}

fn config(image: &Image, layers: &[Digest]) -> io::Result<Vec<u8>> {
    let config = Config {
        created: &image.created_text,
        architecture: image.architecture,
        os: "linux",
        config: Execution {
            user: image.user,
            env: &image.environment,
            entrypoint: [&image.entrypoint],
            working_dir: "/",
            labels: &image.labels,
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: layers
                .iter()
                .map(|layer| format!("sha256:{}", layer.hex))
                .collect(),
        },
        history: layers
            .iter()
            .map(|_| Step {
                created: &image.created_text,
                created_by: "cargo xtask images",
            })
            .collect(),
    };
    Ok(serde_json::to_vec(&config)?)
}

fn manifest(config: &[u8], layers: &[Digest]) -> io::Result<Vec<u8>> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Digest::of(config).descriptor(CONFIG),
        layers: layers.iter().map(|layer| layer.descriptor(LAYER)).collect(),
    };
    Ok(serde_json::to_vec(&manifest)?)
}

fn index(image: &Image, manifest: &[u8]) -> io::Result<Vec<u8>> {
    let mut descriptor = Digest::of(manifest).descriptor(MANIFEST);
    descriptor.platform = Some(Platform {
        architecture: image.architecture,
        os: "linux",
    });
    // containerd takes the name from the first, the others from the second.
    descriptor.annotations = BTreeMap::from([
        ("io.containerd.image.name", image.reference.clone()),
        ("org.opencontainers.image.ref.name", image.reference.clone()),
    ]);
    let index = Index {
        schema_version: 2,
        media_type: INDEX,
        manifests: vec![descriptor],
    };
    Ok(serde_json::to_vec(&index)?)
}

fn docker_manifest(image: &Image, config: &[u8], layers: &[Digest]) -> io::Result<Vec<u8>> {
    let manifest = [DockerManifest {
        config: Digest::of(config).blob(),
        repo_tags: [&image.reference],
        layers: layers.iter().map(Digest::blob).collect(),
    }];
    Ok(serde_json::to_vec(&manifest)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn image() -> Image {
        let program = File {
            may_capture: true,
            ..File::executable(b"\x7fELF program".to_vec())
        };
        Image {
            reference: "localhost/ja4-thing:1.2.3".to_owned(),
            architecture: "amd64",
            created: 1_700_000_000,
            created_text: "2023-11-14T22:13:20Z".to_owned(),
            user: "65532:65532",
            entrypoint: "/usr/bin/ja4-thing".to_owned(),
            environment: vec!["A=1".to_owned()],
            labels: BTreeMap::from([("org.opencontainers.image.title", "ja4-thing".to_owned())]),
            layers: vec![
                BTreeMap::from([
                    ("tmp/".to_owned(), File::data(Vec::new())),
                    ("etc/passwd".to_owned(), File::data(b"root\n".to_vec())),
                ]),
                BTreeMap::from([("usr/bin/ja4-thing".to_owned(), program)]),
            ],
        }
    }

    fn archive(image: &Image) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(image, &mut bytes).unwrap();
        bytes
    }

    /// Files of a tar by path.
    fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(
                (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
                (0, 0)
            );
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(path, bytes);
        }
        files
    }

    #[test]
    fn the_same_files_give_the_same_bytes_and_others_do_not() {
        let first = archive(&image());
        assert_eq!(first, archive(&image()));
        let mut other = image();
        other.layers[1]
            .get_mut("usr/bin/ja4-thing")
            .unwrap()
            .bytes
            .push(b'!');
        assert_ne!(first, archive(&other));
    }

    #[test]
    fn every_blob_is_there_under_its_own_digest() {
        let files = files(&archive(&image()));
        let blobs: Vec<_> = files
            .iter()
            .filter(|(path, _)| path.starts_with("blobs/sha256/"))
            .collect();
        let blobs: Vec<_> = blobs
            .into_iter()
            .filter(|(path, _)| !path.ends_with('/'))
            .collect();
        assert_eq!(blobs.len(), 4, "manifest, config, two layers");
        for (path, bytes) in blobs {
            assert_eq!(*path, format!("blobs/sha256/{}", hex(&Sha256::digest(bytes))));
        }
    }

    #[test]
    fn what_readers_look_for_leads_from_one_file_to_the_next() {
        let files = files(&archive(&image()));
        let json = |path: &str| serde_json::from_slice::<serde_json::Value>(&files[path]).unwrap();
        let text = |path: &str| serde_json::to_string_pretty(&json(path)).unwrap();
        let blob = |value: &serde_json::Value| value.as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let manifest = blob(&json("index.json")["manifests"][0]["digest"]);
        let config = blob(&json(&manifest)["config"]["digest"]);
        assert_eq!(json("manifest.json")[0]["Config"], config);
        let all = ["index.json", "manifest.json", &manifest, &config].map(text);
        insta::assert_snapshot!("archive", all.join("\n"));
    }

    #[test]
    fn a_layer_is_sorted_and_holds_the_file_capability() {
        let image = image();
        let mut bytes = Vec::new();
        write_layer(&image, &image.layers[1], &mut bytes).unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
            let capability = entry.pax_extensions().unwrap().map(|records| {
                let record = records.last().unwrap().unwrap();
                (record.key().unwrap().to_owned(), record.value_bytes().to_vec())
            });
            seen.push((entry.path().unwrap().display().to_string(), capability));
        }
        let paths: Vec<&str> = seen.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["usr/", "usr/bin/", "usr/bin/ja4-thing"]);
        let (key, value) = seen[2].1.clone().unwrap();
        assert_eq!(key, "SCHILY.xattr.security.capability");
        // magic and effective flag, then permitted bits 0 to 31: little endian words.
        assert_eq!(u32::from_le_bytes(value[..4].try_into().unwrap()), 0x0200_0001);
        assert_eq!(u32::from_le_bytes(value[4..8].try_into().unwrap()), 1 << 13);
        assert_eq!((value.len(), &value[8..]), (20, &[0; 12][..]));
    }

    #[test]
    fn a_record_counts_its_own_digits() {
        assert_eq!(pax_record("k", b"v"), b"6 k=v\n");
        // 97 bytes without the digits: with two it is 99.
        let record = pax_record("k", &[b'x'; 93]);
        assert_eq!((record.len(), &record[..3]), (99, &b"99 "[..]));
        // 98 without: two digits would make 100, which takes three.
        let record = pax_record("k", &[b'x'; 94]);
        assert_eq!((record.len(), &record[..4]), (101, &b"101 "[..]));
    }

    #[test]
    fn the_temporary_folder_is_open_to_all() {
        let image = image();
        let mut bytes = Vec::new();
        write_layer(&image, &image.layers[0], &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let tmp = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .find(|entry| entry.path().unwrap().ends_with("tmp"));
        assert_eq!(tmp.unwrap().header().mode().unwrap(), 0o1777);
    }
}
