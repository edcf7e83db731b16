//! Why a server could not be reached, in words: what, where, and how to mend it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tonic::Status;

use super::connection::Place;
use super::failure::{Exit, Failure};
use super::identity::Files;
use super::probe;

/// A call that did not get as far as an answer.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct ConnectError {
    what: String,
    /// How to mend it.
    pub(crate) hint: String,
    /// What the process ends with.
    pub(crate) exit: Exit,
}

impl Place {
    async fn refusal(&self, limit: Duration) -> Option<std::io::Error> {
        let host = self.server.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = self.server.port_u16().unwrap_or(443);
        probe::refusal(host, port, self.files.as_ref()?, limit).await
    }
}

/// What went wrong, as far as it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    NothingListens,
    UnknownHost,
    TimedOut,
    UntrustedServer,
    WrongServerName,
    ExpiredServer,
    RefusedClient,
    NotTls,
    Closed,
    Other,
}

impl ConnectError {
    /// The reason why there is no answer; none if `status` *is* the server's answer. Looks for it no longer than `limit`.
    pub(crate) async fn of(status: &Status, place: &Place, limit: Duration) -> Option<Self> {
        // Only what happened on this side of the connection has a source.
        let text = chain(status.source()?);
        let cause = Cause::of(&text);
        if cause != Cause::Closed {
            return Some(Self::new(cause, &text, place));
        }
        let refusal = place.refusal(limit).await.map_or(text, |error| chain(&error));
        Some(Self::new(Cause::of(&refusal), &refusal, place))
    }

    fn new(cause: Cause, chain: &str, place: &Place) -> Self {
        let server = place.server.to_string();
        let server = server.trim_end_matches('/');
        let file = |of: fn(&Files) -> &Path| {
            place
                .files
                .as_ref()
                .map_or_else(String::new, |files| of(files).display().to_string())
        };
        let (what, hint) = match cause {
            Cause::NothingListens => (
                format!("cannot connect to {server}: nothing listens there"),
                "start the server (`tresor serve`, or `tresor dev` to try things out), or name another with --server"
                    .into(),
            ),
            Cause::UnknownHost => (
                format!("cannot connect to {server}: there is no such host"),
                "correct --server or TRESOR_SERVER".into(),
            ),
            Cause::TimedOut => (
                format!("{server} did not answer in time"),
                "try again, allow more with --timeout 30s, or check that the network lets you reach it".into(),
            ),
            Cause::UntrustedServer => (
                format!(
                    "{server} shows a certificate that is not from the CA in {}",
                    file(|files| &*files.ca)
                ),
                "give the CA of this server's certificate with --ca; if you have it, someone may be in between".into(),
            ),
            Cause::WrongServerName => (
                format!("{server} shows a certificate for another name"),
                "use a name that is in the server's certificate with --server".into(),
            ),
            Cause::ExpiredServer => (
                format!("{server} shows a certificate that is not valid now"),
                "renew the server's certificate, or set this machine's clock".into(),
            ),
            Cause::RefusedClient => (
                format!(
                    "{server} does not accept the certificate in {}",
                    file(|files| &*files.cert)
                ),
                "give one that is from the server's client CA, not expired and not revoked, with --cert and --key"
                    .into(),
            ),
            Cause::NotTls => (
                format!("{server} does not speak TLS"),
                "check the port in --server: 8443 is the usual one; health and metrics have others".into(),
            ),
            Cause::Closed => (
                format!("{server} closed the connection without an answer"),
                "see its log; it may not accept your certificate (--cert), or may be shutting down".into(),
            ),
            Cause::Other => (
                format!("no answer from {server}: {chain}"),
                "check --server, and the server's log".into(),
            ),
        };
        let exit = if cause == Cause::RefusedClient {
            Exit::Denied
        } else {
            Exit::Unavailable
        };
        Self { what, hint, exit }
    }
}

impl Cause {
    /// The layers between wrap each other's errors in private types; their texts are all that is left of the cause.
    fn of(chain: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| chain.contains(text));
        if says(&["Connection refused"]) {
            Self::NothingListens
        } else if says(&[
            "failed to lookup address",
            "Name or service not known",
            "nodename nor servname",
        ]) {
            Self::UnknownHost
        } else if says(&[
            "Timeout expired",
            "TLS handshake timeout",
            "deadline has elapsed",
            "timed out",
        ]) {
            Self::TimedOut
        } else if says(&["not valid for name", "NotValidForName"]) {
            Self::WrongServerName
        } else if says(&[
            "certificate expired",
            "invalid peer certificate: Expired",
            "NotValidYet",
            "not valid yet",
        ]) {
            Self::ExpiredServer
        } else if says(&["invalid peer certificate"]) {
            Self::UntrustedServer
        } else if says(&["received fatal alert"]) {
            Self::RefusedClient
        } else if says(&["corrupt message"]) {
            Self::NotTls
        } else if says(&[
            "connection closed",
            "broken pipe",
            "Broken pipe",
            "Connection reset",
            "unexpected eof",
            "early eof",
        ]) {
            Self::Closed
        } else {
            Self::Other
        }
    }
}

/// The texts of an error and of its causes, without repetitions.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// The files are there, but TLS cannot use them.
pub(crate) fn unusable_identity(files: &Files, error: &tonic::transport::Error) -> Failure {
    Failure::Usage(format!(
        "--cert {} and --key {} cannot be used: {}; the key must be the certificate's own, unencrypted",
        files.cert.display(),
        files.key.display(),
        chain(error)
    ))
}

#[cfg(test)]
mod tests;
