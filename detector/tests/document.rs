//! `docs/detection.md` holds the dictionary of features as it is in the code. `UPDATE_DOCS=1 cargo test -p detector --test document`
//! writes it anew.

use std::path::Path;

const BEGIN: &str = "<!-- features: generated from lib/reasons/src/dictionary.rs -->\n";
const END: &str = "<!-- end of features -->";

#[test]
fn the_table_of_features_is_the_dictionary_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/detection.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    let expected = ja4_reasons::dictionary::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(
            table == expected,
            "docs/detection.md is stale: UPDATE_DOCS=1 cargo test -p detector --test document"
        );
    }
}
