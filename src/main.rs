//! The command `tresor`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
