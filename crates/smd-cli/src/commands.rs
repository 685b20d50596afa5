//! The subcommands, one file each.

pub mod bench;
pub mod calibrate;
mod config_source;
pub mod diagnose;
pub mod eval;
pub mod import;
pub mod info;
pub mod quickstart;
pub mod sample;
pub mod theory;
pub mod train;
pub mod verify;
