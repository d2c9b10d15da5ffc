//! The store: the only place that reads it ([`read`]) and the only one that writes to it ([`mod@write`]).

pub(crate) mod read;
pub(crate) mod rows;
pub(crate) mod write;

use std::time::Duration;

use clickhouse::Client;
use ja4_common::clickhouse::{ClientError, Patience, StoreConfig, error_code};

use crate::api::types::ProblemCode;
use crate::error::ApiError;

/// How long a connection may take: a store that is there answers at once, and a page should say soon that it is not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections are closed before the store does it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that notices soon when the store is away.
///
/// # Errors
/// If the token's file cannot be read or is open to everybody, or the certificates cannot be read.
pub(crate) fn client(config: &StoreConfig) -> Result<Client, ClientError> {
    config.client_with(Patience {
        connect: Some(CONNECT_TIMEOUT),
        idle: IDLE_TIMEOUT,
    })
}

/// What a failure of the store is to the user. `what` is for the log: which query.
pub(crate) fn api_error(what: &str, error: &clickhouse::error::Error) -> ApiError {
    use clickhouse::error::Error;
    let said = chain(error);
    let problem = |code, detail: &str, remedy: &str| {
        let mut problem = ApiError::new(code, detail).with_remedy(remedy);
        problem.log = Some(format!("{what}: {said}"));
        problem
    };
    match error {
        Error::Network(_) | Error::TimedOut => unreachable(&format!("{what}: {said}")),
        Error::BadResponse(text) => match error_code(text) {
            // TOO_SLOW, TIMEOUT_EXCEEDED, TOO_MANY_ROWS, TOO_MANY_BYTES, MEMORY_LIMIT_EXCEEDED,
            // TOO_MANY_ROWS_OR_BYTES, SET_SIZE_LIMIT_EXCEEDED, QUERY_WAS_CANCELLED.
            Some(158..=160 | 191 | 241 | 307 | 394 | 396) => problem(
                ProblemCode::QueryTooLarge,
                "the question is too large for the store",
                "ask for a shorter window or a narrower filter",
            ),
            // TOO_MANY_SIMULTANEOUS_QUERIES, and the embedded store's queue.
            Some(202 | 203) => problem(
                ProblemCode::StoreBusy,
                "the store has too much to do just now",
                "try again",
            )
            .retry_after(2),
            // UNKNOWN_TABLE, UNKNOWN_DATABASE, UNKNOWN_IDENTIFIER, NO_SUCH_COLUMN_IN_TABLE, THERE_IS_NO_COLUMN.
            Some(8 | 16 | 47 | 60 | 81) => problem(
                ProblemCode::StoreNotMigrated,
                "the store has no tables of this version",
                "run `ja4 schema apply`",
            ),
            // ACCESS_DENIED, AUTHENTICATION_FAILED and its kin.
            Some(192..=194 | 497 | 516) => problem(
                ProblemCode::StoreUnreachable,
                "the store refuses the dashboard's token",
                "check store.user and store.token_file of the dashboard",
            ),
            Some(_) => ApiError::internal(format!("{what}: {said}")),
            // Whatever answers there is no store of ours, or it is ending.
            None => unreachable(&format!("{what}: {said}")),
        },
        _ => ApiError::internal(format!("{what}: {said}")),
    }
}

/// The store does not answer.
pub(crate) fn unreachable(log: &str) -> ApiError {
    let mut problem = ApiError::new(ProblemCode::StoreUnreachable, "the store does not answer")
        .with_remedy("pages try again by themselves; the dashboard's log says what it tried")
        .retry_after(2);
    problem.log = Some(log.to_owned());
    problem
}

fn chain(error: &clickhouse::error::Error) -> String {
    // A line of a log; the store repeats the statement.
    const MAX_CHARS: usize = 600;
    ja4_common::exit::chain(error).chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use clickhouse::error::Error;

    use super::*;

    #[test]
    fn failures_of_the_store_are_told_apart() {
        let code = |text: &str| api_error("q", &Error::BadResponse(text.to_owned())).code;
        assert_eq!(
            code("Code: 159. DB::Exception: Timeout exceeded"),
            ProblemCode::QueryTooLarge
        );
        assert_eq!(
            code("Code: 60. DB::Exception: Unknown table"),
            ProblemCode::StoreNotMigrated
        );
        assert_eq!(code("Code: 516. DB::Exception: x"), ProblemCode::StoreUnreachable);
        assert_eq!(
            code("Code: 62. DB::Exception: Syntax error"),
            ProblemCode::Internal
        );
        assert_eq!(code("<html>"), ProblemCode::StoreUnreachable);
        assert_eq!(
            api_error("q", &Error::TimedOut).code,
            ProblemCode::StoreUnreachable
        );
    }

    #[test]
    fn the_user_never_sees_what_the_store_said() {
        let error = api_error("q", &Error::BadResponse("Code: 62. SELECT secret".to_owned()));
        assert!(!error.detail.contains("secret") && error.log.unwrap().contains("secret"));
    }
}
