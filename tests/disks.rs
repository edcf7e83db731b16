//! Power cuts, full and failing disks, and chaos, on small real file systems. Needs root, loop devices, a C compiler and mkfs.ext4.
//!
//! `tests/run` runs it, `cargo test` alone does not; `tests/endure` does more of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod endurance;
mod support;

#[path = "disks/chaos.rs"]
mod chaos;
#[path = "disks/disk.rs"]
mod disk;
#[path = "disks/faults.rs"]
mod faults;
#[path = "disks/power.rs"]
mod power;
#[path = "disks/trouble.rs"]
mod trouble;
