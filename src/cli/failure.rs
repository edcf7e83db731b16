//! What went wrong, what is said about it, and the code that the process ends with.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connect_error::ConnectError;
use super::{hint, output};

/// How the process ends. The help of `tresor` lists the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Another failure.
    Failed = 1,
    /// Wrong usage, as clap has it too.
    Usage = 2,
    /// The server refuses an argument.
    Invalid = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The caller is unknown, or may not.
    Denied = 5,
    /// Not in this version or state.
    Conflict = 6,
    /// No answer, or not now.
    Unavailable = 7,
    /// Coverage has gaps.
    Gaps = 8,
    /// The audit log was changed, or a backup is not to be used.
    Broken = 9,
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Arguments or input that cannot be meant like that; found after clap was content.
    #[error("{0}")]
    Usage(String),
    /// A file that an option names.
    #[error("{option} {}: cannot be read: {source}", path.display())]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard input or the terminal.
    #[error("cannot read {what}: {source}")]
    Input {
        /// What was to be read.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
    /// The machine has no threads or descriptors left.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    /// The server could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server's refusal.
    #[error("{}", text(.0))]
    Call(Box<Status>),
    /// An answer without a part that it must have.
    #[error("the server's answer has no {0}; its version does not fit this client's")]
    Incomplete(&'static str),
    /// A server, or what it needs, could not be set up. Several lines if several things are wrong.
    #[error("{0}")]
    Start(String),
    /// The server says that it does not serve, or says nothing.
    #[error("{0}")]
    Unhealthy(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl Failure {
    /// How the process ends for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::File { .. }
            | Self::Input { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Incomplete(_)
            | Self::Start(_)
            | Self::Unhealthy(_) => Exit::Failed,
            Self::Connect(error) => error.exit,
            Self::Call(status) => Exit::of(status.code()),
        }
    }

    /// What is said about it: the error, each bad field, and how to mend it, a line each.
    pub(crate) fn report(&self) -> String {
        let mut lines = vec![format!("error: {self}")];
        match self {
            Self::Connect(error) => lines.push(format!("hint: {}", error.hint)),
            Self::Call(status) => lines = refusal(status),
            Self::Start(text) => lines = text.lines().map(|line| format!("error: {line}")).collect(),
            _ => {}
        }
        lines.iter().map(|line| output::plain(line) + "\n").collect()
    }
}

fn text(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        message => message,
    }
}

fn refusal(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let info = details.error_info();
    let name = info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
    let mut lines = vec![format!("error: {} ({name})", text(status))];
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        lines.push(format!("  {}: {}", violation.field, violation.description));
    }
    let hint = info.and_then(|info| hint::for_reason(&info.reason, &info.metadata));
    if let Some(hint) = hint.or_else(|| hint::for_code(status.code())) {
        lines.push(format!("hint: {hint}"));
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.push(format!(
            "hint: it may work again in {}",
            humantime::format_duration(delay)
        ));
    }
    lines
}

impl Exit {
    /// How the process ends for a gRPC code.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::Aborted | Code::FailedPrecondition | Code::AlreadyExists => Self::Conflict,
            // Nothing but a deadline cancels our calls.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => Self::Unavailable,
            Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_shows_message_reason_fields_and_hint() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("INVALID_FIELD", "credentials.dynarex", HashMap::new())
            .add_bad_request_violation("login.customer_number", "must be 7 digits")
            .add_bad_request_violation("login.username", "is required");
        let failure = Failure::from(Status::with_error_details(
            Code::InvalidArgument,
            "2 fields are wrong",
            details,
        ));
        assert_eq!(
            failure.report(),
            "error: 2 fields are wrong (INVALID_FIELD)\n\
             \x20 login.customer_number: must be 7 digits\n\
             \x20 login.username: is required\n"
        );
        assert_eq!(failure.exit(), Exit::Invalid);
    }

    #[test]
    fn a_refusal_for_now_says_when_to_come_back() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("SEALED", "credentials.dynarex", HashMap::new())
            .set_retry_info(Some(Duration::from_secs(5)));
        let report = Failure::from(Status::with_error_details(Code::Unavailable, "sealed", details)).report();
        assert!(report.contains("hint: ") && report.contains("in 5s"), "{report}");
    }

    #[test]
    fn a_status_without_details_is_named_by_its_code() {
        let failure = Failure::from(Status::not_found("no such credential"));
        assert!(failure.report().starts_with("error: no such credential (NotFound)\n"));
        assert_eq!(failure.exit(), Exit::NotFound);
    }

    #[test]
    fn a_message_cannot_command_the_terminal() {
        let report = Failure::from(Status::internal("\u{1b}[2Jgone\nerror: another")).report();
        assert_eq!(report.lines().count(), 1, "{report}");
        assert!(!report.contains('\u{1b}'));
    }

    #[test]
    fn codes_are_those_of_the_help() {
        for (code, exit) in [
            (Code::Ok, 0),
            (Code::Internal, 1),
            (Code::InvalidArgument, 3),
            (Code::NotFound, 4),
            (Code::PermissionDenied, 5),
            (Code::Unauthenticated, 5),
            (Code::Aborted, 6),
            (Code::FailedPrecondition, 6),
            (Code::Unavailable, 7),
            (Code::DeadlineExceeded, 7),
            (Code::ResourceExhausted, 7),
        ] {
            assert_eq!(Exit::of(code) as u8, exit, "{code:?}");
        }
        assert_eq!(Exit::Gaps as u8, 8);
        assert_eq!(Exit::Broken as u8, 9);
        assert_eq!(Failure::Usage(String::new()).exit() as u8, 2);
    }
}
