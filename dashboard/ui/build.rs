//! Chooses the pages that are embedded: `JA4_WEB_DIST`, else `dashboard/web/dist`, else a stub that says how to build them.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=JA4_WEB_DIST");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=stub");
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let built = match std::env::var_os("JA4_WEB_DIST") {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            assert!(
                has_pages(&folder),
                "JA4_WEB_DIST is {}, where there is no index.html: run npm run build in dashboard/web",
                folder.display()
            );
            folder
        }
        None => here.join("../web/dist"),
    };
    // A path that is not there would run this each time; whoever builds the pages for the first time names them by
    // JA4_WEB_DIST, or touches this file.
    let folder = if has_pages(&built) {
        built
    } else {
        here.join("stub")
    };
    println!("cargo::rerun-if-changed={}", folder.join("index.html").display());
    println!(
        "cargo::rustc-env=JA4_UI_IS_STUB={}",
        u8::from(folder.ends_with("stub"))
    );
    memory_serve::load_directory(folder.canonicalize().unwrap_or(folder));
}

fn has_pages(folder: &Path) -> bool {
    folder.join("index.html").is_file()
}
