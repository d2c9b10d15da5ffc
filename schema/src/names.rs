//! Names of the two databases and of the cluster, and the placeholders that stand for them in SQL files.

/// Where a schema lives. SQL files never spell a database's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    logs: String,
    processing: String,
    cluster: Option<String>,
    dictionary_user: Option<(String, String)>,
}

/// A name that cannot be put into SQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} name {name:?} must be 1 to 64 letters, digits and underscores and not begin with a digit")]
pub struct InvalidName {
    /// What it should name.
    pub what: &'static str,
    /// The name.
    pub name: String,
}

impl Default for Names {
    /// `ja4_logs` and `ja4_processing` on a single server.
    fn default() -> Self {
        Self {
            logs: "ja4_logs".to_owned(),
            processing: "ja4_processing".to_owned(),
            cluster: None,
            dictionary_user: None,
        }
    }
}

impl Names {
    /// Databases on a single server.
    ///
    /// # Errors
    /// If a name is not an identifier.
    pub fn new(logs: &str, processing: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            logs: checked("database", logs)?,
            processing: checked("database", processing)?,
            cluster: None,
            dictionary_user: None,
        })
    }

    /// The same on a cluster: replicated local tables with a Distributed one in front, statements run on all servers.
    ///
    /// # Errors
    /// If the name is not an identifier.
    pub fn on_cluster(mut self, cluster: &str) -> Result<Self, InvalidName> {
        self.cluster = Some(checked("cluster", cluster)?);
        Ok(self)
    }

    /// User and password with which dictionaries read their tables, where the server's default user may not.
    #[must_use]
    pub fn with_dictionary_user(mut self, user: &str, password: &str) -> Self {
        self.dictionary_user = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Database of what happened.
    pub fn logs(&self) -> &str {
        &self.logs
    }

    /// Database of what was made of it.
    pub fn processing(&self) -> &str {
        &self.processing
    }

    /// The cluster, if there is one.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// `sql` with every placeholder replaced. Query parameters, `{name:Type}`, stay.
    pub fn expand(&self, sql: &str) -> String {
        let on_cluster = self
            .cluster
            .as_ref()
            .map_or(String::new(), |cluster| format!(" ON CLUSTER `{cluster}`"));
        let (local, replicated, dedup_window) = match self.cluster {
            Some(_) => ("_local", "Replicated", "replicated_deduplication_window"),
            None => ("", "", "non_replicated_deduplication_window"),
        };
        let dict_auth = self
            .dictionary_user
            .as_ref()
            .map_or(String::new(), |(user, password)| {
                format!(" USER {} PASSWORD {}", quoted(user), quoted(password))
            });
        sql.replace("{logs}", &self.logs)
            .replace("{processing}", &self.processing)
            .replace("{on_cluster}", &on_cluster)
            .replace("{local}", local)
            .replace("{replicated}", replicated)
            .replace("{dedup_window}", dedup_window)
            .replace("{dict_auth}", &dict_auth)
    }
}

/// A text as an SQL literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn checked(what: &'static str, name: &str) -> Result<String, InvalidName> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if fits {
        Ok(name.to_owned())
    } else {
        Err(InvalidName {
            what,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_queries_survive_expansion() {
        let names = Names::new("a", "b").unwrap();
        assert_eq!(
            names.expand("SELECT {from:DateTime} FROM {logs}.t JOIN {processing}.u"),
            "SELECT {from:DateTime} FROM a.t JOIN b.u"
        );
    }

    #[test]
    fn names_that_would_break_out_of_sql_are_refused() {
        for name in ["", "a b", "a`", "1a", "a'; DROP", &"x".repeat(65)] {
            assert!(Names::new(name, "b").is_err(), "{name}");
        }
    }
}
