//! `tresor completions`: what a shell needs to complete this command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Print the completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor completions bash > ~/.local/share/bash-completion/completions/tresor")]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        // The generator panics when it cannot write; memory always takes it.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tresor", &mut script);
        output.write(&script)?;
        Ok(Exit::Done)
    }
}
