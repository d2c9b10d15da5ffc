//! A store of one's own: `ja4-clickhouse` on a temporary folder, ended and removed on drop. For measurements and tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickhouse::Client;

/// A boot takes a second, on a busy machine some.
const BOOT_TIMEOUT: Duration = Duration::from_mins(1);

/// A running store.
#[derive(Debug)]
pub(crate) struct StoreProcess {
    child: Child,
    folder: PathBuf,
    url: String,
    token: String,
}

impl StoreProcess {
    /// Starts `program` on `folder/data`; `folder` is made, and removed with everything in it on drop.
    ///
    /// # Errors
    /// When the program cannot be started or does not become ready; its own last lines say why.
    pub(crate) fn start(program: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let log = folder.join("log");
        let file = fs::File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let data = folder.join("data");
        let child = Command::new(program)
            .args(["run", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| {
                format!(
                    "could not start {}: cargo build -p embedded-clickhouse",
                    program.display()
                )
            })?;
        let mut process = Self {
            child,
            folder,
            url: String::new(),
            token: String::new(),
        };
        let deadline = Instant::now() + BOOT_TIMEOUT;
        let address = loop {
            if let Ok(address) = fs::read_to_string(data.join("listen")) {
                break address;
            }
            let ended = process.child.try_wait().context("could not wait for the store")?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).context("could not read the store's log")?;
                bail!("the store did not start:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        process.url = format!("http://{}", address.trim());
        let token = data.join("tokens/migrator");
        let text =
            fs::read_to_string(&token).with_context(|| format!("could not read {}", token.display()))?;
        text.trim().clone_into(&mut process.token);
        Ok(process)
    }

    /// A client that may do everything.
    pub(crate) fn client(&self) -> Client {
        client(&self.url, &self.token)
    }

    /// Process id.
    #[allow(dead_code, reason = "the tests do not measure")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Address and token, for a process that shall use the same store.
    #[allow(dead_code, reason = "schema-doc has no other process")]
    pub(crate) fn access(&self) -> (&str, &str) {
        (&self.url, &self.token)
    }
}

/// A client of the store at `url` with the migrator's token.
pub(crate) fn client(url: &str, token: &str) -> Client {
    Client::default()
        .with_url(url)
        .with_user("migrator")
        .with_password(token)
}

impl Drop for StoreProcess {
    fn drop(&mut self) {
        // It may have ended by itself; what is left of the folder is in the system's temporary files.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = fs::remove_dir_all(&self.folder);
    }
}
