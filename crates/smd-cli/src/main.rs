//! The command `smd`.

#[allow(dead_code, unused_imports, reason = "wired by the commands")]
mod metrics;
#[allow(dead_code, unused_imports, reason = "wired by the commands")]
mod output;
#[allow(dead_code, reason = "`smd quickstart` will call it")]
mod report;
#[allow(dead_code, reason = "wired by the commands")]
mod run_folder;

fn main() {}
