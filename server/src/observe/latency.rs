//! LATENCY: events that took longer than `latency-monitor-threshold`, with their history.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use holdfast_engine::error::CommandError;
use holdfast_engine::reply::{CommandResult, Reply};
use parking_lot::Mutex;

/// Samples kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;
/// Columns and rows of a graph.
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    unix_s: u64,
    latency_ms: u64,
}

#[derive(Debug, Default)]
struct Series {
    samples: VecDeque<Sample>,
    max_ms: u64,
}

/// The latency monitor; events go by name: `command`, `fast-command`, `expire-cycle`, …
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    // Names come from our own code, so there are only as many as are written in it.
    events: Mutex<BTreeMap<&'static str, Series>>,
}

impl LatencyMonitor {
    /// Keeps an event that took at least `threshold_ms`; a threshold of 0 keeps none. Of several
    /// in one second the longest counts.
    pub fn record(&self, threshold_ms: u64, event: &'static str, unix_s: u64, latency_ms: u64) {
        if threshold_ms == 0 || latency_ms < threshold_ms {
            return;
        }
        let mut events = self.events.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(latency_ms);
        match series.samples.back_mut() {
            Some(last) if last.unix_s == unix_s => {
                last.latency_ms = last.latency_ms.max(latency_ms)
            }
            _ => {
                if series.samples.len() == SAMPLES_MAX {
                    series.samples.pop_front();
                }
                series.samples.push_back(Sample { unix_s, latency_ms });
            }
        }
    }

    /// `LATENCY LATEST`: name, time, latest and longest latency of each event.
    #[must_use]
    pub fn latest(&self) -> Reply {
        let events = self.events.lock();
        let entries = events.iter().filter_map(|(name, series)| {
            let last = series.samples.back()?;
            let name = Reply::bulk(name.as_bytes());
            let numbers = [last.unix_s, last.latency_ms, series.max_ms].map(number);
            Some(Reply::Array(std::iter::once(name).chain(numbers).collect()))
        });
        Reply::Array(entries.collect())
    }

    /// `LATENCY HISTORY event`: pairs of time and latency, oldest first.
    #[must_use]
    pub fn history(&self, event: &[u8]) -> Reply {
        let events = self.events.lock();
        let samples = find(&events, event).map(|(_, series)| series.samples.iter());
        let pair =
            |sample: &Sample| Reply::Array(vec![number(sample.unix_s), number(sample.latency_ms)]);
        Reply::Array(samples.into_iter().flatten().map(pair).collect())
    }

    /// `LATENCY RESET [event …]`: how many events were forgotten.
    #[must_use]
    pub fn reset(&self, names: &[&[u8]]) -> Reply {
        let mut events = self.events.lock();
        let before = events.len();
        if names.is_empty() {
            events.clear();
        }
        for name in names {
            events.retain(|known, _| !known.as_bytes().eq_ignore_ascii_case(name));
        }
        Reply::count(before - events.len())
    }

    /// `LATENCY GRAPH event`: the samples drawn in text.
    ///
    /// # Errors
    /// For an event without samples.
    pub fn graph(&self, event: &[u8], now_s: u64) -> CommandResult {
        let events = self.events.lock();
        let Some((name, series)) = find(&events, event) else {
            let name = String::from_utf8_lossy(event);
            return Err(CommandError::new(format!("ERR No samples available for event '{name}'")));
        };
        Ok(Reply::Verbatim(draw(name, series, now_s).into()))
    }

    /// `LATENCY DOCTOR`: a report in plain words.
    #[must_use]
    pub fn doctor(&self, threshold_ms: u64, slower_than_us: i64, now_s: u64) -> Reply {
        let events = self.events.lock();
        let mut text = String::new();
        if events.is_empty() {
            text += if threshold_ms == 0 {
                "Latency monitoring is off. Turn it on with CONFIG SET latency-monitor-threshold \
                 <milliseconds>, and ask again once something was slow.\n"
            } else {
                "No latency spike was observed since the start or the last LATENCY RESET.\n"
            };
            return Reply::Verbatim(text.into());
        }
        text += "Latency spikes were observed:\n\n";
        for (nth, (name, series)) in events.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}. {name}: {}", nth + 1, summary(series, now_s));
        }
        text += "\nAdvice:\n\n";
        for advice in advices(&events, threshold_ms, slower_than_us) {
            let _ = writeln!(text, "- {advice}");
        }
        Reply::Verbatim(text.into())
    }

    /// `LATENCY HELP`
    #[must_use]
    pub fn help() -> Reply {
        Reply::Array(
            [
                "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "DOCTOR",
                "    Return a human readable latency analysis report.",
                "GRAPH <event>",
                "    Return an ASCII latency graph for the <event> class.",
                "HISTORY <event>",
                "    Return time-latency samples for the <event> class.",
                "LATEST",
                "    Return the latest latency samples for all events.",
                "RESET [<event> ...]",
                "    Reset latency data of one or more <event> classes.",
                "    (default: reset all data for all event classes)",
                "HISTOGRAM [COMMAND ...]",
                "    Return a cumulative distribution of latencies in the format of a histogram \
                 for the specified command names.",
                "    If no commands are specified then all histograms are replied.",
                "HELP",
                "    Prints this help.",
            ]
            .map(Reply::simple)
            .into(),
        )
    }
}

fn number(n: u64) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn find<'a>(
    events: &'a BTreeMap<&'static str, Series>,
    name: &[u8],
) -> Option<(&'static str, &'a Series)> {
    let found = events.iter().find(|(known, _)| known.as_bytes() == name);
    found.map(|(name, series)| (*name, series))
}

fn summary(series: &Series, now_s: u64) -> String {
    let count = series.samples.len().max(1) as u64;
    let latencies = || series.samples.iter().map(|sample| sample.latency_ms);
    let mean = latencies().sum::<u64>() / count;
    let deviation = latencies().map(|ms| ms.abs_diff(mean)).sum::<u64>() / count;
    let oldest = series.samples.front().map_or(now_s, |sample| sample.unix_s);
    let period = now_s.saturating_sub(oldest).max(1) as f64 / count as f64;
    format!(
        "{count} latency spikes (average {mean}ms, mean deviation {deviation}ms, \
         period {period:.2} sec). Worst all time event {}ms.",
        series.max_ms
    )
}

fn advices(
    events: &BTreeMap<&'static str, Series>,
    threshold_ms: u64,
    slower_than_us: i64,
) -> Vec<String> {
    let mut advices = Vec::new();
    if events.contains_key("command") || events.contains_key("fast-command") {
        let wanted_us = threshold_ms.max(1).saturating_mul(1_000);
        match u64::try_from(slower_than_us) {
            Err(_) => advices.push(format!(
                "The slow log is off: CONFIG SET slowlog-log-slower-than {wanted_us} names the \
                 commands that are slow."
            )),
            Ok(us) if us > wanted_us => advices.push(format!(
                "The slow log misses some of these: CONFIG SET slowlog-log-slower-than {wanted_us}."
            )),
            Ok(_) => advices.push("SLOWLOG GET names the commands that were slow.".into()),
        }
        advices.push(
            "Commands over whole collections (KEYS, SMEMBERS, HGETALL, LRANGE 0 -1) take time in \
             proportion to their size: prefer SCAN and its kin."
                .into(),
        );
    }
    if events.contains_key("fast-command") {
        advices.push(
            "Commands that take constant time were slow, so the machine was busy: look for other \
             processes, CPU limits of the container, or swapping."
                .into(),
        );
    }
    if events.keys().any(|name| name.starts_with("expire")) {
        advices.push(
            "Many keys expire at once: spread their TTLs, or lower active-expire-effort.".into(),
        );
    }
    if events.keys().any(|name| name.starts_with("eviction")) {
        advices
            .push("Evictions hold up writes: raise maxmemory, or lower maxmemory-samples.".into());
    }
    if events.keys().any(|name| name.starts_with("aof") || name.starts_with("rdb")) {
        advices.push("The disk is slow: use a local one, and keep other writers off it.".into());
    }
    if advices.is_empty() {
        advices.push("None for these events; LATENCY HISTORY shows when they happened.".into());
    }
    advices
}

/// A column per sample, its height by its latency; below each the time that passed since.
fn draw(name: &str, series: &Series, now_s: u64) -> String {
    let skip = series.samples.len().saturating_sub(GRAPH_COLUMNS);
    let samples: Vec<Sample> = series.samples.iter().skip(skip).copied().collect();
    let latencies = samples.iter().map(|sample| sample.latency_ms);
    let high = latencies.clone().max().unwrap_or(0);
    let low = latencies.min().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(GRAPH_COLUMNS)
    );
    let shades = ['_', 'o', '#'];
    let levels = (GRAPH_ROWS * shades.len() - 1) as u64;
    let span = (high - low).max(1);
    for row in (0..GRAPH_ROWS).rev() {
        for sample in &samples {
            let level = ((sample.latency_ms - low) * levels / span) as usize;
            text.push(match level.checked_sub(row * shades.len()) {
                Some(shade) => *shades.get(shade).unwrap_or(&'|'),
                None => ' ',
            });
        }
        text.push('\n');
    }
    text.push('\n');
    let labels: Vec<Vec<char>> =
        samples.iter().map(|sample| age(now_s.saturating_sub(sample.unix_s))).collect();
    for row in 0..labels.iter().map(Vec::len).max().unwrap_or(0) {
        for label in &labels {
            text.push(*label.get(row).unwrap_or(&' '));
        }
        text.push('\n');
    }
    text
}

/// Seconds in the largest fitting unit, one character per row: `5s`, `12m`, `3h`, `2d`.
fn age(seconds: u64) -> Vec<char> {
    let (n, unit) = match seconds {
        0..60 => (seconds, 's'),
        60..3_600 => (seconds / 60, 'm'),
        3_600..86_400 => (seconds / 3_600, 'h'),
        _ => (seconds / 86_400, 'd'),
    };
    n.to_string().chars().chain([unit]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Verbatim(blob) => String::from_utf8_lossy(&blob).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_above_the_threshold_are_kept() {
        let monitor = LatencyMonitor::default();
        monitor.record(0, "command", 1, 500);
        monitor.record(100, "command", 1, 99);
        assert_eq!(monitor.latest(), Reply::Array(vec![]));
        monitor.record(100, "command", 1, 300);
        monitor.record(100, "command", 1, 200);
        monitor.record(100, "command", 2, 100);
        monitor.record(100, "expire-cycle", 2, 150);
        let entry = |name: &str, numbers: [i64; 3]| {
            let name = Reply::bulk(name.as_bytes());
            Reply::Array(std::iter::once(name).chain(numbers.map(Reply::Integer)).collect())
        };
        assert_eq!(
            monitor.latest(),
            Reply::Array(vec![
                entry("command", [2, 100, 300]),
                entry("expire-cycle", [2, 150, 150]),
            ])
        );
        let pair = |a, b| Reply::Array(vec![Reply::Integer(a), Reply::Integer(b)]);
        assert_eq!(monitor.history(b"command"), Reply::Array(vec![pair(1, 300), pair(2, 100)]));
        assert_eq!(monitor.history(b"x"), Reply::Array(vec![]));
        assert_eq!(monitor.reset(&[b"COMMAND", b"x"]), Reply::Integer(1));
        assert_eq!(monitor.reset(&[]), Reply::Integer(1));
    }

    #[test]
    fn history_is_bounded() {
        let monitor = LatencyMonitor::default();
        (0..1_000).for_each(|s| monitor.record(1, "command", s, 5));
        let Reply::Array(samples) = monitor.history(b"command") else { panic!("not an array") };
        assert_eq!(samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn the_graph_shows_heights_and_ages() {
        let monitor = LatencyMonitor::default();
        monitor.record(1, "command", 100, 10);
        monitor.record(1, "command", 160, 120);
        let graph = text(monitor.graph(b"command", 170).expect("has samples"));
        let lines: Vec<_> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 120 ms, low 10 ms (all time high 120 ms)");
        assert_eq!(lines[2..6], [" #", " |", " |", "_|"]);
        assert_eq!(lines[7..], ["11", "m0", " s"]);
        let error = monitor.graph(b"x", 170).expect_err("no samples");
        assert_eq!(error.text(), "ERR No samples available for event 'x'");
    }

    #[test]
    fn the_doctor_says_what_to_do() {
        let monitor = LatencyMonitor::default();
        assert!(text(monitor.doctor(0, 10_000, 0)).contains("is off"));
        assert!(text(monitor.doctor(5, 10_000, 0)).contains("No latency spike"));
        monitor.record(20, "command", 10, 150);
        let report = text(monitor.doctor(20, -1, 11));
        assert!(
            report.contains(
                "1. command: 1 latency spikes (average 150ms, mean deviation 0ms, \
            period 1.00 sec). Worst all time event 150ms."
            ),
            "{report}"
        );
        assert!(report.contains("slowlog-log-slower-than 20000"), "{report}");
    }
}
