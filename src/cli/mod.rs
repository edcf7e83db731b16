//! The command line. The client subcommands talk to a server over the same gRPC API as everybody else; each lives in a file
//! of its name. What they share: `connection` (which server, who are we), `output` (tables, JSON), `failure` (what is said
//! and which code the process ends with).

mod account;
mod args;
mod assignment;
mod audit;
mod backup;
mod check;
mod completions;
mod confirm;
mod connect_error;
mod connection;
mod coverage;
mod credential;
mod dev;
mod explain;
mod failure;
#[cfg(test)]
mod fake;
mod finding;
mod health;
mod hint;
mod identity;
#[cfg(not(feature = "fuzzing"))]
mod import;
#[cfg(feature = "fuzzing")]
pub(crate) mod import;
mod init;
mod jwks;
mod keys;
mod list;
mod output;
mod owner;
mod policy;
mod probe;
mod provider;
mod purge;
mod put;
mod rescue;
mod resolve;
mod resolved;
mod restore;
mod secret_input;
mod serve;
mod status;
mod view;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tresor::hardening::{Debugging, Hardening};

use connection::{Connection, ConnectionArgs};
use failure::{Exit, Failure};
use output::{Format, Output};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  another failure (for `health`: not serving)
  2  wrong usage
  3  an argument, or a line of `import`, that the server refuses
  4  not found
  5  denied: no identity that the server knows, or one that may not do this
  6  conflict: another version than expected, or a state that forbids it
  7  unavailable: cannot connect, no answer in time, sealed, over a quota
  8  `coverage` found gaps
  9  `audit verify` found that the log was changed, `backup verify` that a backup is not to be used,
     or `check` that something in the store is wrong

JSON (--output json):
  One object on standard output, its fields in snake_case; the help of each subcommand shows which.
  Times are RFC 3339 in UTC, durations are in seconds, choices have the words of the options
  (`per-office`, `enabled`). What is not set is null. Warnings are in the object and on standard error.
  New fields may be added; none is renamed or removed.

Example:
  tresor credential list demo --output json";

/// A vault for the credentials of third-party systems: the server and its operator's client.
#[derive(Debug, Parser)]
#[command(name = "tresor", version, after_help = AFTER_HELP, max_term_width = 120, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How to show the answer: as a table for people, or as JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    connection: ConnectionArgs,
}

// Each variant is parsed once in a process; its size does not matter.
#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Init(init::Init),
    Serve(serve::Serve),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(flatten)]
    Client(ClientCommand),
    #[command(subcommand)]
    Audit(audit::Command),
    Backup(backup::Backup),
    Check(check::Check),
    Restore(restore::Restore),
    Rescue(rescue::Rescue),
    #[command(subcommand)]
    Recovery(keys::Recovery),
    Health(health::Health),
    Completions(completions::Completions),
}

/// What calls a server.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    #[command(subcommand)]
    Credential(credential::Command),
    #[command(subcommand)]
    Assignment(assignment::Command),
    #[command(subcommand)]
    Provider(provider::Command),
    Resolve(resolve::Resolve),
    Explain(explain::Explain),
    Coverage(coverage::Coverage),
    Import(import::Import),
    Status(status::Status),
    Jwks(jwks::Jwks),
    #[command(subcommand)]
    Rotate(keys::Rotate),
    Rewrap(keys::Rewrap),
    EraseTenant(keys::EraseTenant),
}

/// Runs what the arguments say, reports a failure on standard error, and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::standard(cli.output);
    let exit = run(cli.command, &cli.connection, &mut output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit()
    });
    exit.into()
}

fn run(command: Command, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Client(command) => on_runtime(async {
            let connection = connection.open()?;
            match call(command, &connection, output).await {
                Err(failure) => Err(connection.explain(failure).await),
                done => done,
            }
        }),
        Command::Audit(command) => on_runtime(command.run(connection, output)),
        Command::Check(check) => hardened(|| on_runtime(check.run(connection, output))),
        Command::Backup(backup) => hardened(|| on_runtime(backup.run(connection, output))),
        Command::Restore(restore) => hardened(|| on_runtime(restore.run(output))),
        Command::Rescue(rescue) => hardened(|| on_runtime(rescue.run(output))),
        Command::Dev(dev) => dev.run(output),
        Command::Init(init) => init.run(output),
        Command::Serve(serve) => serve.run(output),
        Command::Policy(command) => command.run(output),
        Command::Recovery(recovery) => hardened(|| recovery.run(output)),
        Command::Health(health) => on_runtime(health.run(connection.timeout(), output)),
        Command::Completions(completions) => completions.run(output),
    }
}

async fn call(command: ClientCommand, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        ClientCommand::Credential(command) => command.run(connection, output).await,
        ClientCommand::Assignment(command) => command.run(connection, output).await,
        ClientCommand::Provider(command) => command.run(connection, output).await,
        ClientCommand::Resolve(resolve) => resolve.run(connection, output).await,
        ClientCommand::Explain(explain) => explain.run(connection, output).await,
        ClientCommand::Coverage(coverage) => coverage.run(connection, output).await,
        ClientCommand::Import(import) => import.run(connection, output).await,
        ClientCommand::Status(status) => status.run(connection, output).await,
        ClientCommand::Jwks(jwks) => jwks.run(connection, output).await,
        ClientCommand::Rotate(rotate) => rotate.run(connection, output).await,
        ClientCommand::Rewrap(rewrap) => rewrap.run(connection, output).await,
        ClientCommand::EraseTenant(erase) => erase.run(connection, output).await,
    }
}

/// What may open a store or a key-encryption key itself holds what a server holds, and its files are the server's.
fn hardened(work: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    Hardening::begin(Debugging::Refused).map_err(serve::start)?;
    work()
}

/// A client has one call under way at a time: one thread is enough.
fn on_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
        if command.get_subcommands().next().is_none() {
            return vec![command];
        }
        command.get_subcommands().flat_map(leaves).collect()
    }

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_subcommand_says_what_it_does_and_shows_an_example() {
        let cli = Cli::command();
        for leaf in leaves(&cli) {
            let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains("Example:\n  tresor "),
                "{} has no example",
                leaf.get_name()
            );
            assert!(leaf.get_about().is_some(), "{} says nothing of itself", leaf.get_name());
        }
    }

    #[test]
    fn the_options_of_the_connection_may_follow_the_subcommand() {
        let cli = Cli::try_parse_from(["tresor", "status", "--server", "vault:8443", "--output", "json"]).unwrap();
        assert!(matches!(cli.output, Format::Json));
    }

    #[test]
    fn wrong_usage_ends_with_code_2() {
        let error = Cli::try_parse_from(["tresor", "credential", "get", "demo/dat"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("TENANT/PROVIDER/office/ID"), "{error}");
    }

    #[test]
    fn no_option_takes_a_secret() {
        let cli = Cli::command();
        for leaf in leaves(&cli) {
            for argument in leaf.get_arguments().filter(|a| a.get_action().takes_values()) {
                let name = argument.get_id().as_str();
                let secret = ["password", "signature", "secret", "token"];
                let harmless = ["oauth2_token_url", "signature", "secret_file"];
                assert!(
                    harmless.contains(&name) || !secret.iter().any(|word| name.contains(word)),
                    "{} --{name}",
                    leaf.get_name()
                );
            }
        }
    }
}
