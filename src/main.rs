//! The command `tresor`.

mod cli;

/// A resolve allocates and frees some sixty pieces of up to a few kilobytes. This allocator does that in two thirds of the C library's
/// time, and what one thread frees another can have at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
