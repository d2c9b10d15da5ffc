//! Prints the definition of `Ja4Pipeline`, or writes it and its page to where they are kept; `--check` says whether they are as they should be.

use std::io::Write as _;
use std::path::PathBuf;

/// Where the definition is kept.
const DEFINITION: &str = "crds/ja4pipelines.yaml";
/// Where the page is kept.
const PAGE: &str = "docs/ja4pipeline.md";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let definition = serde_saphyr::to_string(&operator_api::crd())?;
    let definition =
        format!("# The custom resource Ja4Pipeline; written by crdgen from operator/api.\n{definition}");
    let files = [(DEFINITION, definition.clone()), (PAGE, operator_api::page())];
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    match std::env::args().nth(1).as_deref() {
        Some("--write") => {
            for (place, text) in files {
                let path = root.join(place);
                std::fs::create_dir_all(path.parent().ok_or("a place has a folder")?)?;
                std::fs::write(path, text)?;
            }
            Ok(())
        }
        Some("--check") => {
            for (place, text) in files {
                if std::fs::read_to_string(root.join(place)).ok() != Some(text) {
                    return Err(format!("{place} is not as the types say; type cargo run -p operator-api --bin crdgen -- --write").into());
                }
            }
            Ok(())
        }
        _ => Ok(std::io::stdout().write_all(definition.as_bytes())?),
    }
}
