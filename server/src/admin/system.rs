//! What the operating system says of this process.

/// Seconds of processor time in user mode and in the kernel.
#[must_use]
pub(super) fn cpu_seconds() -> (f64, f64) {
    /// `utime` and `stime` of /proc/self/stat count in these.
    const TICKS_PER_S: f64 = 100.0;
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return (0.0, 0.0) };
    // The name in parentheses may hold anything; the fields follow its last parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let mut next = || fields.next().and_then(Result::ok).unwrap_or(0.0) / TICKS_PER_S;
    (next(), next())
}

/// Bytes of memory the machine has.
#[must_use]
pub(super) fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit) * info.totalram
}
