//! What machine this is, in words.

/// Cores and processor, e.g. "2 cores, Intel(R) Xeon(R) Processor".
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let plural = if cores == 1 { "" } else { "s" };
    match model {
        Some((_, model)) => format!("{cores} core{plural}, {model}"),
        None => format!("{cores} core{plural}, {}", std::env::consts::ARCH),
    }
}

/// The largest resident memory of this process so far, in bytes, where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
