//! The command `tresor`.

fn main() {}
