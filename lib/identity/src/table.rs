//! Reads the embedded tables: tab-separated, `#` before comments, one line of column names.

/// Why embedded data cannot be used: a mistake in the build, found by the crate's tests.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A line has another number of columns than the table.
    #[error("{table} line {line}: {n_found} columns instead of {n_expected}")]
    Columns {
        /// Name of the table.
        table: &'static str,
        /// Line, from 1.
        line: usize,
        /// Columns of the line.
        n_found: usize,
        /// Columns of the table.
        n_expected: usize,
    },
    /// The table lacks its line of column names, or has other columns.
    #[error("{table}: columns are not {expected}")]
    Header {
        /// Name of the table.
        table: &'static str,
        /// The columns, comma between.
        expected: String,
    },
    /// A value that the table does not allow.
    #[error("{table}: {value:?} is not a {what}")]
    Value {
        /// Name of the table.
        table: &'static str,
        /// The value.
        value: String,
        /// What was expected.
        what: &'static str,
    },
    /// Rules for User-Agents that are no JSON of the expected form.
    #[error("rules for user agents cannot be read")]
    Rules(#[from] serde_json::Error),
    /// A rule that does not compile.
    #[error("rules for user agents do not compile: {0}")]
    Compile(String),
}

/// Lines of a table, each with `N` values.
pub(crate) fn read<const N: usize>(
    table: &'static str,
    text: &'static str,
    columns: [&str; N],
) -> Result<Vec<[&'static str; N]>, LoadError> {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let names = lines.next().map(|(_, line)| line).unwrap_or_default();
    if !names.split('\t').eq(columns) {
        return Err(LoadError::Header {
            table,
            expected: columns.join(","),
        });
    }
    lines
        .map(|(at, line)| {
            let values: Vec<&str> = line.split('\t').collect();
            let n_found = values.len();
            values.try_into().map_err(|_| LoadError::Columns {
                table,
                line: at + 1,
                n_found,
                n_expected: N,
            })
        })
        .collect()
}
