//! `tresor jwks`: the vault's public signing keys, for whoever verifies what it has signed.

use clap::Args;
use serde_json::Value;
use tresor::pb::v1::GetSigningKeysRequest;

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Print the public keys that the vault's signatures verify with, as a JSON Web Key Set (RFC 7517).
///
/// Keep a copy beside the backups: with it `audit verify`, `backup verify` and `restore` (--jwks) need no server. Keys that sign no
/// more stay in the set for as long as something that they signed is to be verified.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor jwks > keys.json\n\n\
    JSON, with either --output: {keys[]: {kid, kty, crv, x, use, alg}}")]
pub(crate) struct Jwks {}

impl Jwks {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let answer = connection.resolver().get_signing_keys(GetSigningKeysRequest {}).await?;
        let jwks = answer.into_inner().jwks;
        // What is kept is read when the vault is gone: too late to find that it holds nothing.
        if !has_keys(&jwks) {
            return Err(Failure::Incomplete("public keys"));
        }
        output.write(format!("{jwks}\n").as_bytes())?;
        Ok(Exit::Done)
    }
}

fn has_keys(jwks: &str) -> bool {
    let set: Result<Value, _> = serde_json::from_str(jwks);
    set.is_ok_and(|set| set["keys"].as_array().is_some_and(|keys| !keys.is_empty()))
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::GetSigningKeysResponse;

    use super::*;
    use crate::cli::fake::Fake;

    #[tokio::test]
    async fn the_set_is_printed_as_the_server_gives_it_whatever_the_format() {
        let jwks = r#"{"keys":[{"alg":"EdDSA","kid":"a"}]}"#;
        for line in ["jwks", "jwks --output json"] {
            let server = Fake::default().will(GetSigningKeysResponse { jwks: jwks.into() });
            let ran = server.run(line).await;
            assert_eq!(ran.result.unwrap(), Exit::Done);
            assert_eq!((ran.stdout, ran.stderr), (format!("{jwks}\n"), String::new()));
        }
    }

    #[tokio::test]
    async fn an_answer_without_keys_is_no_set() {
        for jwks in ["", "{}", "<html>", r#"{"keys":[]}"#] {
            let server = Fake::default().will(GetSigningKeysResponse { jwks: jwks.into() });
            let ran = server.run("jwks").await;
            let failure = ran.result.unwrap_err();
            assert_eq!((failure.exit(), ran.stdout), (Exit::Failed, String::new()), "{jwks}");
            assert!(failure.to_string().contains("no public keys"), "{failure}");
        }
    }
}
