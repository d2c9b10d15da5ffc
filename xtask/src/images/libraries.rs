//! Which shared libraries a program needs, as the loader finds them, and which package each comes from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// A shared library, or the loader itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Library {
    /// Where programs look for it; in an image it is at the same place.
    pub(crate) path: PathBuf,
    /// The distribution's package with its version, where there is one to ask.
    pub(crate) package: Option<(String, String)>,
}

/// All that `program` needs, however deep.
///
/// # Errors
/// When `ldd` is missing, or a library is.
pub(crate) fn of(program: &Path) -> anyhow::Result<Vec<Library>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("could not start ldd (Debian: libc-bin)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        if format!("{text}{words}").contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        bail!(
            "ldd {} ended with {}: {}",
            program.display(),
            output.status,
            words.trim()
        );
    }
    let paths = parse(&text).with_context(|| format!("{} cannot be put into an image", program.display()))?;
    Ok(paths
        .into_iter()
        .map(|path| Library {
            package: package(&path),
            path,
        })
        .collect())
}

/// Reads `ldd`'s lines: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader's, which is a path alone.
fn parse(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let found = match line.split_once(" => ") {
            Some((name, "not found")) => {
                bail!("{name} is not on this machine; install the package that has it")
            }
            Some((_, found)) => found,
            // The kernel's own page has a name and no path.
            None if line.starts_with('/') => line,
            None => continue,
        };
        let path = found.rsplit_once(" (").map_or(found, |(path, _)| path);
        paths.push(PathBuf::from(path));
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The Debian package of a file and its version.
fn package(path: &Path) -> Option<(String, String)> {
    // Packages know /usr/lib, the loader /lib, which is a link to it now.
    let real = path.canonicalize().ok()?;
    let short = real
        .strip_prefix("/usr")
        .ok()
        .map(|rest| Path::new("/").join(rest));
    let owner = [Some(real), short].into_iter().flatten().find_map(|path| {
        let output = Command::new("dpkg")
            .arg("-S")
            .arg(path)
            .env("LC_ALL", "C")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // `libc6:amd64: /lib/…`
        let owner = text.lines().next()?.split(": ").next()?.to_owned();
        output.status.success().then_some(owner)
    })?;
    let version = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", &owner])
        .output()
        .ok()?;
    let name = owner.split(':').next()?.to_owned();
    Some((name, String::from_utf8(version.stdout).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_a_missing_library_is_named() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibpcap.so.0.8 => /lib/x/libpcap.so.0.8 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = [
            "/lib/x/libc.so.6",
            "/lib/x/libpcap.so.0.8",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse(text).unwrap(), paths.map(PathBuf::from));
        let error = parse("\tlibpcap.so.0.8 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libpcap.so.0.8"), "{error}");
    }

    #[test]
    fn this_very_program_needs_the_c_library() {
        let libraries = of(&std::env::current_exe().unwrap()).unwrap();
        let mut names = libraries.iter().filter_map(|library| library.path.file_name());
        assert!(names.any(|name| name == "libc.so.6"), "{libraries:?}");
    }
}
