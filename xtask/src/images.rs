//! `cargo xtask images`: one image archive for each component, from nothing but its program and what that needs.
//!
//! There is no base image: a shell or a package manager that is not there cannot be misused or go stale.
//! [`archive`] and [`sbom`] are pure; here files are read and programs asked.

mod archive;
mod libraries;
mod sbom;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{cargo, web};
use archive::{File, Image, Layer};

/// What to make and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Folder of the archives [default: images in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only these images.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Cargo profile of the programs: release, or dev, which is built quicker.
    #[arg(long, default_value = "release", value_name = "NAME")]
    profile: String,
    /// Take built programs from this folder and build nothing.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// What comes before the image's name: a registry and a path, to push it there.
    #[arg(long, default_value = "localhost", value_name = "PREFIX")]
    prefix: String,
}

impl Options {
    /// All images for the tests on a cluster.
    pub(crate) fn for_tests(out: PathBuf, programs: Option<PathBuf>) -> Self {
        Self {
            out: Some(out),
            only: Vec::new(),
            profile: "dev".to_owned(),
            programs,
            prefix: "localhost".to_owned(),
        }
    }
}

/// An image to make.
struct Component {
    /// The archive is `<name>.tar`.
    name: &'static str,
    /// The image's name, and what follows the version in its tag.
    image: (&'static str, &'static str),
    package: &'static str,
    program: &'static str,
    user: &'static str,
    /// Whether the program has the file capability for packet sockets.
    may_capture: bool,
    description: &'static str,
}

/// Not root, and nobody else's number on a node.
const NONROOT: &str = "65532:65532";

const COMPONENTS: &[Component] = &[
    Component {
        name: "ja4-sensor",
        image: ("ja4-sensor", ""),
        package: "sensor-ds",
        program: "ja4-sensor",
        // Kubernetes gives no capability to another user: as root it needs NET_RAW and nothing else.
        user: "0:0",
        may_capture: false,
        description: "Captures packets and reports TLS ClientHellos with JA4 and JA3",
    },
    Component {
        name: "ja4-sensor-filecap",
        image: ("ja4-sensor", "-filecap"),
        package: "sensor-ds",
        program: "ja4-sensor",
        user: NONROOT,
        may_capture: true,
        description: "Captures packets and reports TLS ClientHellos with JA4 and JA3; not root, by a file capability",
    },
    Component::plain(
        "ja4-correlator",
        "correlator",
        "Joins HTTP requests with the TLS connections they came on",
    ),
    Component::plain("ja4-detector", "detector", "Scores clients and says why"),
    Component::plain("ja4-dashboard", "dashboard", "Pages for analysts"),
    Component::plain(
        "ja4-clickhouse",
        "embedded-clickhouse",
        "The embedded ClickHouse engine behind its HTTP interface",
    ),
    Component::plain("ja4-demo", "demo", "A real HTTPS site and real clients"),
    Component::plain(
        "ja4-operator",
        "operator",
        "Keeps what a Ja4Pipeline asks for running",
    ),
    Component {
        program: "ja4",
        ..Component::plain(
            "ja4-cli",
            "cli",
            "Starts a pipeline, runs schema migrations, examines a machine",
        )
    },
];

impl Component {
    const fn plain(name: &'static str, package: &'static str, description: &'static str) -> Self {
        Self {
            name,
            image: (name, ""),
            package,
            program: name,
            user: NONROOT,
            may_capture: false,
            description,
        }
    }
}

/// Where the engine is in the image of `ja4-clickhouse`.
const ENGINE: &str = "usr/lib/ja4/libchdb.so";

/// What all images of one run share.
struct Run {
    version: String,
    revision: String,
    created: i64,
    created_text: String,
    metadata: Value,
    prefix: String,
}

/// Builds the programs and writes the archives, each with its size. Returns their folder.
///
/// # Errors
/// When a program cannot be built, something of it is missing, or the folder cannot be written.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<PathBuf> {
    let chosen: Vec<&Component> = COMPONENTS
        .iter()
        .filter(|component| options.only.is_empty() || options.only.iter().any(|name| name == component.name))
        .collect();
    let known: Vec<&str> = COMPONENTS.iter().map(|component| component.name).collect();
    if let Some(unknown) = options.only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no image {unknown}; there are {}", known.join(", "));
    }
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => build(root, &chosen, &options.profile)?,
    };
    let out = match &options.out {
        Some(out) => out.clone(),
        None => cargo::target_dir(root)?.join("images"),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    let shared = Run::new(root, &options.prefix)?;
    for component in chosen {
        let path = out.join(format!("{}.tar", component.name));
        let image = assemble(root, &shared, component, &programs)?;
        write(&image, &path)?;
        let mib = path.metadata()?.len() / (1 << 20);
        println!("{:>5} MiB  {}  {}", mib, image.reference, path.display());
    }
    Ok(out)
}

fn build(root: &Path, chosen: &[&Component], profile: &str) -> anyhow::Result<PathBuf> {
    if chosen.iter().any(|component| component.package == "dashboard") {
        web::build(root)?;
    }
    // The whole workspace is named: with a part of it, dependencies would be built with other features.
    let mut args = vec!["build", "--workspace", "--locked", "--profile", profile];
    for component in chosen {
        args.extend(["--bin", component.program]);
    }
    cargo::cargo(root, &args)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(cargo::target_dir(root)?.join(folder))
}

impl Run {
    fn new(root: &Path, prefix: &str) -> anyhow::Result<Self> {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let metadata = cargo::output(
            root,
            &[
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                &platform,
            ],
        )?;
        let created = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text
                .parse()
                .context("SOURCE_DATE_EPOCH is no number of seconds")?,
            Err(_) => git(root, &["show", "-s", "--format=%ct", "HEAD"])?
                .parse()
                .context("git printed no commit time")?,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: git(root, &["rev-parse", "HEAD"])?,
            created,
            created_text: rfc3339(created)?,
            metadata: serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?,
            prefix: prefix.to_owned(),
        })
    }
}

fn git(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(args)
        .output()
        .context("could not start git")?;
    if !output.status.success() {
        bail!(
            "git {} ended with {}: {}; outside a checkout set SOURCE_DATE_EPOCH",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rfc3339(seconds: i64) -> anyhow::Result<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).context("the time is out of range")?;
    Ok(time.format(&time::format_description::well_known::Rfc3339)?)
}

/// Collects the files of an image.
fn assemble(root: &Path, run: &Run, component: &Component, programs: &Path) -> anyhow::Result<Image> {
    let program = programs.join(component.program);
    if !program.is_file() {
        bail!(
            "{} is not there; leave out --programs to build it",
            program.display()
        );
    }
    let mut needed: BTreeSet<_> = libraries::of(&program)?.into_iter().collect();
    let mut parts = BTreeSet::new();
    let mut base = common_files();
    let mut environment = Vec::new();
    if component.package == "embedded-clickhouse" {
        let engine = engine(root)?;
        needed.extend(libraries::of(&engine)?);
        parts.insert(engine_part(root)?);
        base.insert(ENGINE.to_owned(), File::executable(read(&engine)?));
        environment.push(format!("CHDB_LIB=/{ENGINE}"));
    }
    if component.package == "dashboard" {
        let lock = read(&root.join("dashboard/web/package-lock.json"))?;
        parts.extend(sbom::parts_of_pages(&serde_json::from_slice(&lock)?));
    }
    for library in &needed {
        let path = library.path.strip_prefix("/").unwrap_or(&library.path);
        base.insert(path.display().to_string(), File::executable(read(&library.path)?));
        parts.insert(sbom::part_of(library));
    }
    let origin = sbom::Origin {
        component: component.name,
        version: &run.version,
        revision: &run.revision,
        created: &run.created_text,
    };
    let sbom = sbom::document(&origin, &run.metadata, component.package, &parts)?;
    let file = File {
        may_capture: component.may_capture,
        ..File::executable(stripped(&program)?)
    };
    let own = Layer::from([
        (format!("usr/bin/{}", component.program), file),
        (
            format!("usr/share/sbom/{}.json", component.image.0),
            File::data(sbom),
        ),
        (
            "usr/share/doc/ja4/LICENSE".to_owned(),
            File::data(read(&root.join("LICENSE"))?),
        ),
        (
            "usr/share/doc/ja4/NOTICE".to_owned(),
            File::data(read(&root.join("NOTICE"))?),
        ),
    ]);
    let (name, suffix) = component.image;
    Ok(Image {
        reference: format!("{}/{name}:{}{suffix}", run.prefix, run.version),
        architecture: architecture()?,
        created: run.created,
        created_text: run.created_text.clone(),
        user: component.user,
        entrypoint: format!("/usr/bin/{}", component.program),
        environment,
        labels: BTreeMap::from([
            ("org.opencontainers.image.title", name.to_owned()),
            ("org.opencontainers.image.version", run.version.clone()),
            ("org.opencontainers.image.revision", run.revision.clone()),
            ("org.opencontainers.image.created", run.created_text.clone()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
            (
                "org.opencontainers.image.description",
                component.description.to_owned(),
            ),
        ]),
        layers: vec![base, own],
    })
}

/// Who the users are, how names are found, and a folder for temporary files.
fn common_files() -> Layer {
    let text = |text: &str| File::data(text.as_bytes().to_vec());
    Layer::from([
        (
            "etc/passwd".to_owned(),
            text("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"),
        ),
        ("etc/group".to_owned(), text("root:x:0:\nnonroot:x:65532:\n")),
        ("etc/nsswitch.conf".to_owned(), text("hosts: files dns\n")),
        ("tmp/".to_owned(), text("")),
    ])
}

fn engine(root: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new(root.join("scripts/fetch-libchdb"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("could not start scripts/fetch-libchdb")?;
    if !output.status.success() {
        bail!("scripts/fetch-libchdb ended with {}", output.status);
    }
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.canonicalize()
        .with_context(|| format!("{} is not there", path.display()))
}

/// The engine's package, as the script that fetches it names it.
fn engine_part(root: &Path) -> anyhow::Result<sbom::Part> {
    let script = String::from_utf8_lossy(&read(&root.join("scripts/fetch-libchdb"))?).into_owned();
    let value = |name: &str| {
        let line = script
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(str::to_owned)
            .with_context(|| format!("scripts/fetch-libchdb sets no {name}"))
    };
    let (name, version) = (value("PACKAGE")?, value("VERSION")?);
    Ok(sbom::Part {
        purl: Some(format!("pkg:npm/{}@{version}", name.replace('@', "%40"))),
        license: Some("Apache-2.0".to_owned()),
        name,
        version,
    })
}

/// The program without its line tables: they are ten times its size in the dev profile.
fn stripped(program: &Path) -> anyhow::Result<Vec<u8>> {
    let out = tempfile::NamedTempFile::new().context("could not make a temporary file")?;
    let status = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .arg(out.path())
        .arg(program)
        .status()
        .context("could not start strip (Debian: binutils)")?;
    if !status.success() {
        bail!("strip {} ended with {status}", program.display());
    }
    read(out.path())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// This machine's architecture in the words of images: programs are built for it.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no image for {other}: its name in images is not known here"),
    }
}

/// Beside its place first: nobody ever loads half an archive.
fn write(image: &Image, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("an archive is in a folder")?;
    let unfinished = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("could not write to {}", folder.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, unfinished);
    archive::write(image, &mut out)
        .and_then(|()| out.flush())
        .with_context(|| format!("could not write {}", path.display()))?;
    let unfinished = out.into_inner().context("the archive was flushed above")?;
    unfinished
        .persist(path)
        .with_context(|| format!("could not write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A stand-in for a build: this very program under the name of the sensor.
    fn programs() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), folder.path().join("ja4-sensor")).unwrap();
        folder
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn two_runs_write_the_same_archive() {
        let programs = programs();
        let sums = [(), ()].map(|()| {
            let out = tempfile::tempdir().unwrap();
            let options = Options {
                only: vec!["ja4-sensor-filecap".to_owned()],
                ..Options::for_tests(out.path().to_owned(), Some(programs.path().to_owned()))
            };
            run(&root(), &options).unwrap();
            Sha256::digest(std::fs::read(out.path().join("ja4-sensor-filecap.tar")).unwrap())
        });
        assert_eq!(sums[0], sums[1]);
    }

    #[test]
    fn only_the_sensor_is_root_or_may_capture() {
        for component in COMPONENTS {
            let is_sensor = component.program == "ja4-sensor";
            let has_rights = component.user != NONROOT || component.may_capture;
            assert_eq!(has_rights, is_sensor, "{}", component.name);
            let is_root = component.user == "0:0";
            assert!(
                !(is_root && component.may_capture),
                "{}: one or the other",
                component.name
            );
        }
    }

    #[test]
    fn an_unknown_image_is_named_beside_those_there_are() {
        let options = Options {
            only: vec!["ja4-sensr".to_owned()],
            ..Options::for_tests(PathBuf::new(), None)
        };
        let error = run(&root(), &options).unwrap_err().to_string();
        assert!(
            error.contains("ja4-sensr") && error.contains("ja4-sensor,"),
            "{error}"
        );
    }

    #[test]
    fn times_are_written_as_images_want_them() {
        assert_eq!(rfc3339(1_700_000_000).unwrap(), "2023-11-14T22:13:20Z");
    }
}
