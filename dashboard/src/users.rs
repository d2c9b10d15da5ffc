//! `ja4-dashboard user …`: local users, from the command line.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};

use crate::api::types::Role;
use crate::auth::passwords;
use crate::config::DashboardConfig;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::run;
use crate::state::App;
use crate::store::read::Ask;
use crate::store::rows::UserListRow;
use crate::store::write::{Act, UserWrite};
use crate::window::now_us;

/// What to do with users. Passwords are read from standard input, one line.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user, or change role and password of one.
    Add {
        /// Name.
        name: String,
        /// What the user may do.
        #[arg(long, value_enum, default_value_t = RoleName::Analyst)]
        role: RoleName,
    },
    /// List all users.
    List,
    /// Set a password.
    Password {
        /// Name.
        name: String,
    },
    /// Keep a user from logging in; sessions end within a minute.
    Disable {
        /// Name.
        name: String,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads and exports.
    Viewer,
    /// Labels, undoes, makes rules.
    Analyst,
    /// Sees the audit.
    Admin,
}

impl RoleName {
    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Admin => "admin",
        }
    }
}

/// Does it.
///
/// # Errors
/// When the store is away, or a name or password cannot be used.
pub(crate) fn run(config: &DashboardConfig, command: &UserCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let app = run::app(config, Metrics::register(&prometheus::Registry::new())?)?;
        match command {
            UserCommand::Add { name, role } => set(&app, name, Some(role.name()), true, false).await,
            UserCommand::Password { name } => set(&app, name, None, true, false).await,
            UserCommand::Disable { name } => set(&app, name, None, false, true).await,
            UserCommand::List => list(&app).await,
        }
    })
}

fn said(error: ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.log.unwrap_or(error.detail))
}

async fn list(app: &App) -> anyhow::Result<()> {
    let users: Vec<UserListRow> = app.reader.rows(Ask::new("users")).await.map_err(said)?.rows;
    let mut out = std::io::stdout().lock();
    for user in users {
        let state = match (user.disabled, user.has_password) {
            (0, 1) => "",
            (0, _) => " no password",
            _ => " disabled",
        };
        writeln!(out, "{} {}{state}", user.user_name, user.role)?;
    }
    Ok(())
}

async fn set(
    app: &App,
    name: &str,
    role: Option<&str>,
    with_password: bool,
    disabled: bool,
) -> anyhow::Result<()> {
    if let Some(why) = passwords::refuse_user(name) {
        bail!("{why}");
    }
    let known = app.user(name).await.map_err(said)?;
    let role = match (role, &known) {
        (Some(role), _) => role.to_owned(),
        (None, Some(known)) => known.role.clone(),
        (None, None) => bail!("there is no user {name}: `user list` shows all, `user add` adds one"),
    };
    anyhow::ensure!(
        passwords::role(&role) >= Some(Role::Viewer),
        "the store has the role {role:?}, which is none"
    );
    let password_hash = if with_password {
        let password = read_password()?;
        if let Some(why) = passwords::refuse(name, &password) {
            bail!("{why}");
        }
        passwords::hash(&password).map_err(said)?
    } else {
        known.map(|known| known.password_hash).unwrap_or_default()
    };
    let act = Act {
        user: "command line".to_owned(),
        act: "user",
        object: name.to_owned(),
        detail: serde_json::json!({ "role": role, "password": with_password, "disabled": disabled }),
        remote: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    app.writer.audit(&act).await.map_err(said)?;
    let user = UserWrite {
        user_name: name.to_owned(),
        version: u64::try_from(now_us())?,
        role,
        password_hash,
        disabled: u8::from(disabled),
        deleted: 0,
    };
    app.writer.user(&user).await.map_err(said)
}

fn read_password() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("could not read the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
