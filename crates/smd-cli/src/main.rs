//! The command `smd`.

#[allow(dead_code, reason = "`smd quickstart` will call it")]
mod report;

fn main() {}
