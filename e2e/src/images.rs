//! The images under test: archives that `cargo xtask images` wrote, loaded into nodes once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use rustix::fs::FlockOperation;

use crate::case::Case;

impl Case {
    /// The reference of an image under test (`ja4-sensor`, or `ja4-sensor-filecap` for its other tag), which every node has
    /// when this returns. On somebody else's cluster it must have been loaded before.
    ///
    /// # Errors
    /// When `E2E_IMAGES` names no folder with its archive, or a node does not take it.
    pub fn image(&self, name: &str) -> anyhow::Result<String> {
        let reference = format!("localhost/{}", tag(name));
        let Some(nodes) = self.node_access() else {
            return Ok(reference);
        };
        let folder = std::env::var_os("E2E_IMAGES")
            .map(PathBuf::from)
            .context("E2E_IMAGES names no folder of image archives; cargo xtask e2e makes them, or cargo xtask images --out DIR")?;
        let archive = folder.join(format!("{name}.tar"));
        if !archive.is_file() {
            bail!(
                "{} is not there; make it with cargo xtask images --out {}",
                archive.display(),
                folder.display()
            );
        }
        // Tests of other processes may want the same image now.
        let lock =
            File::create(nodes.state().join("images.lock")).context("could not make the lock of images")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("could not lock images")?;
        let loaded = nodes.state().join(format!("image-{name}.loaded"));
        let wanted = stamp(&archive)?;
        if std::fs::read_to_string(&loaded).is_ok_and(|found| found == wanted) {
            return Ok(reference);
        }
        let path = archive.to_str().context("the archive's path is not UTF-8")?;
        nodes.ctl(&["load", path])?;
        std::fs::write(&loaded, wanted).context("could not note the loaded image")?;
        Ok(reference)
    }
}

/// Name and tag of an image whose archive is `name`.tar.
fn tag(name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match name.strip_suffix("-filecap") {
        Some(base) => format!("{base}:{version}-filecap"),
        None => format!("{name}:{version}"),
    }
}

/// Tells one archive of a name from the next.
fn stamp(archive: &Path) -> anyhow::Result<String> {
    let metadata = archive
        .metadata()
        .with_context(|| format!("could not read {}", archive.display()))?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!(
        "{} {} {}",
        archive.display(),
        metadata.len(),
        modified.as_nanos()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_tag_of_an_image_has_an_archive_of_its_own() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(tag("ja4-sensor"), format!("ja4-sensor:{version}"));
        assert_eq!(tag("ja4-sensor-filecap"), format!("ja4-sensor:{version}-filecap"));
    }
}
