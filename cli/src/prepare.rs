//! `ja4 prepare-folder`: makes folders with an owner and a mode. Kubernetes makes a node's folders as root's with mode 0755, which
//! no other user may write; an init container with nothing but the right to change owners runs this.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{Gid, Mode, OFlags, Uid};

/// What to make.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Folders, made with their parents where they are missing.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Numbers of user and group.
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    owner: (u32, u32),
    /// Permissions, in octal digits.
    #[arg(long, value_name = "MODE", default_value = "0750", value_parser = parse_mode)]
    mode: u32,
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once(':')
        .and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    numbers.ok_or_else(|| format!("{text:?} is no pair of numbers such as 65532:65532"))
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("{text:?} is no mode such as 0750")),
    }
}

/// Makes the folders, or changes those that are there.
///
/// # Errors
/// What cannot be made or changed, and why.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    for folder in &options.folders {
        prepare(folder, options.owner, options.mode)
            .with_context(|| format!("folder {} cannot be prepared", folder.display()))?;
    }
    Ok(true)
}

fn prepare(folder: &Path, (user, group): (u32, u32), mode: u32) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Not through a link that somebody else has put there.
    let opened: OwnedFd = rustix::fs::open(
        folder,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let is = rustix::fs::fstat(&opened)?;
    // The mode first: only the owner may change it.
    if is.st_mode & 0o7777 != mode {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
    }
    if (is.st_uid, is.st_gid) != (user, group) {
        rustix::fs::fchown(&opened, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn a_folder_gets_its_mode_and_a_link_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let own = std::fs::metadata(base.path()).unwrap();
        let owner = (own.uid(), own.gid());
        for mode in [0o750, 0o2770, 0o700] {
            prepare(&folder, owner, mode).unwrap();
            assert_eq!(
                std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777,
                mode
            );
        }
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(prepare(&link, owner, 0o750).is_err());
    }

    #[test]
    fn wrong_numbers_are_refused_with_an_example() {
        assert_eq!(parse_owner("65532:1"), Ok((65532, 1)));
        assert!(parse_owner("nobody").unwrap_err().contains("65532:65532"));
        assert_eq!(parse_mode("0750"), Ok(0o750));
        assert!(parse_mode("rwx").unwrap_err().contains("0750"));
    }
}
