//! Exit codes, and the one place where errors are printed.
//!
//! ```text
//! 0  done          1  failed                        2  wrong command line
//! 3  no gateway    4  fewer messages than asked for
//! ```

use std::{io, io::Write, process::ExitCode};

use quorate_client::Error as ClientError;

/// No gateway could be reached.
const NO_GATEWAY: u8 = 3;
/// Fewer messages came than were asked for.
const TOO_FEW: u8 = 4;

/// Fewer messages came than were asked for.
#[derive(Debug, thiserror::Error)]
#[error("{received} messages came, {wanted} were asked for")]
pub(crate) struct TooFew {
    pub(crate) received: u64,
    pub(crate) wanted: u64,
}

/// Prints an error with what to do about it, and returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read the output has seen enough.
        return ExitCode::SUCCESS;
    }
    let text = describe(error);
    // Without standard error there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "quorate: {text}");
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if matches!(error.downcast_ref(), Some(ClientError::NoGateway { .. })) {
        NO_GATEWAY
    } else if error.is::<TooFew>() {
        TOO_FEW
    } else {
        1
    }
}

fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("{error:#}");
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::NoGateway { .. }) => {
            text.push_str("\nStart a cluster with `quorate dev`, or name its gateways with --url or QUORATE_URL.");
        }
        Some(ClientError::Unanswered { .. }) => {
            text.push_str("\nThe gateway lives but the cluster does not answer: `quorate cluster` shows who is missing.");
        }
        Some(
            ClientError::Address(_)
            | ClientError::Unavailable(_)
            | ClientError::Refused(_)
            | ClientError::NumberTooOld { .. }
            | ClientError::LimitReached(_)
            | ClientError::Closed,
        )
        | None => {}
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn errors_say_what_to_do_and_have_their_code() {
        let nobody: anyhow::Error = Err::<(), _>(ClientError::NoGateway {
            addresses: "a:1".to_owned(),
            last: "a:1: connection refused".to_owned(),
        })
        .context("list queues")
        .expect_err("an error");
        let text = describe(&nobody);
        assert!(
            text.starts_with("list queues: no gateway answers at a:1"),
            "{text}"
        );
        assert!(text.contains("quorate dev"), "{text}");
        assert_eq!(code(&nobody), NO_GATEWAY);
        let few = TooFew {
            received: 1,
            wanted: 2,
        };
        assert_eq!(code(&few.into()), TOO_FEW);
        assert_eq!(code(&ClientError::Closed.into()), 1);
    }
}
