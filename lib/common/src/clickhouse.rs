//! The store as a setting, and the client made from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::{self, SecretError};

/// Where the store is and as whom to speak to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Address of the HTTP interface; default `http://127.0.0.1:8123`.
    pub url: String,
    /// User; the embedded store knows `writer`, `detector`, `dashboard`, `migrator`.
    pub user: String,
    /// File with the password or token; nothing for none.
    pub token_file: Option<PathBuf>,
    /// Database of what happened; default `ja4_logs`.
    pub logs_database: String,
    /// Database of what was made of it; default `ja4_processing`.
    pub processing_database: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            user: "writer".to_owned(),
            token_file: None,
            logs_database: "ja4_logs".to_owned(),
            processing_database: "ja4_processing".to_owned(),
        }
    }
}

impl StoreConfig {
    /// A client that speaks as the configured user.
    ///
    /// # Errors
    /// If the token's file cannot be read or is open to everybody.
    pub fn client(&self) -> Result<clickhouse::Client, SecretError> {
        let mut client = clickhouse::Client::default()
            .with_url(&self.url)
            .with_user(&self.user)
            // On loopback compression costs more than it saves (measured: 114 000 rows/s plain, 63 000 with lz4).
            .with_compression(clickhouse::Compression::None);
        if let Some(path) = &self.token_file {
            client = client.with_password(secret::read_file(path)?.expose());
        }
        Ok(client)
    }
}
