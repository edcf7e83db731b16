//! `tresor credential purge`: nothing brings it back, so the path is named twice.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::PurgeCredentialRequest;
use tresor::vault::scope::CredentialRef;

use super::args;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Remove a credential with all its versions, for good.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal you are asked to type the path again; elsewhere, give it with --confirm.\n\n\
    Example:\n  tresor credential purge demo/dat/office/leipzig --confirm demo/dat/office/leipzig\n\n\
    JSON: {path, revision}"
)]
pub(crate) struct Purge {
    /// Which credential, such as demo/dat/office/leipzig.
    #[arg(value_parser = args::path)]
    path: CredentialRef,
    /// The same path again.
    #[arg(long, value_name = "PATH")]
    confirm: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    path: String,
    revision: u64,
}

impl Purge {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let path = self.path.to_string();
        let confirm = match self.confirm {
            Some(confirm) => confirm,
            None => ask(
                &path,
                io::stdin().is_terminal(),
                &mut io::stdin().lock(),
                &mut io::stderr(),
            )?,
        };
        if confirm.trim() != path {
            return Err(Failure::Usage(format!(
                "nothing was purged: the confirmation is not {path}"
            )));
        }
        let request = PurgeCredentialRequest {
            r#ref: Some((&self.path).into()),
            confirm: path.clone(),
        };
        let revision = connection
            .admin()
            .purge_credential(request)
            .await?
            .into_inner()
            .revision;
        output.show(&Answer { path, revision }, |answer| {
            format!("purged {}: revision {}\n", answer.path, answer.revision)
        })?;
        Ok(Exit::Done)
    }
}

fn ask(path: &str, is_terminal: bool, input: &mut impl BufRead, prompts: &mut impl Write) -> Result<String, Failure> {
    if !is_terminal {
        return Err(Failure::Usage(format!(
            "nothing was purged: there is no terminal to ask on; give --confirm {path}"
        )));
    }
    let terminal = |source| Failure::Input {
        what: "the confirmation",
        source,
    };
    write!(
        prompts,
        "This removes all versions of {path} for good. Type the path to go on: "
    )
    .map_err(terminal)?;
    prompts.flush().map_err(terminal)?;
    let mut typed = String::new();
    input.read_line(&mut typed).map_err(terminal)?;
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_asked_for_only_on_a_terminal() {
        let mut prompts = Vec::new();
        let typed = ask("demo/dat/general", true, &mut &b"demo/dat/general\n"[..], &mut prompts).unwrap();
        assert_eq!(typed.trim(), "demo/dat/general");
        assert!(String::from_utf8(prompts).unwrap().contains("demo/dat/general"));

        let failure = ask("demo/dat/general", false, &mut &b""[..], &mut Vec::new()).unwrap_err();
        assert!(failure.to_string().ends_with("--confirm demo/dat/general"), "{failure}");
    }
}
