//! Backups of a store that is written meanwhile, and files that are not as they were made.

mod files;
mod snapshots;
mod support;
