//! The fuzz targets; `FUZZ_TARGET` says which one is run.
#![no_main]
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]

// The program's own part: what reads the files of `tresor import`.
#[path = "../../../src/cli/mod.rs"]
mod cli;

use std::sync::OnceLock;

use tresor::fuzzing::{TARGETS, Target};

// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IMPORTS: Target = ("imports", cli::import::fuzzing::file);

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let all: Vec<Target> = TARGETS.into_iter().chain([IMPORTS]).collect();
        match all.iter().find(|(name, _)| *name == wanted) {
            Some((_, target)) => *target,
            None => {
                let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
                panic!("FUZZ_TARGET is {wanted:?} and must be one of: {}", names.join(", "));
            }
        }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| target()(data));
