//! Error replies by code: INFO errorstats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use holdfast_engine::error::CommandError;
use parking_lot::RwLock;

/// Codes told apart at most: a script may invent codes without end.
pub const CODES_MAX: usize = 128;

/// How often each code was answered.
#[derive(Debug, Default)]
pub struct ErrorStats {
    codes: RwLock<BTreeMap<Box<str>, AtomicU64>>,
    total: AtomicU64,
}

impl ErrorStats {
    /// Counts an error reply. Codes beyond [`CODES_MAX`] are not counted by themselves.
    pub fn record(&self, error: &CommandError) {
        self.total.fetch_add(1, Relaxed);
        let code = error.code();
        if let Some(count) = self.codes.read().get(code) {
            count.fetch_add(1, Relaxed);
            return;
        }
        let mut codes = self.codes.write();
        if codes.len() < CODES_MAX || codes.contains_key(code) {
            codes.entry(code.into()).or_default().fetch_add(1, Relaxed);
        }
    }

    /// `total_error_replies`
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// The lines of INFO errorstats, without line ends, in the order of the codes.
    #[must_use]
    pub fn info_lines(&self) -> Vec<String> {
        let codes = self.codes.read();
        let lines = codes.iter().map(|(code, n)| {
            let n = n.load(Relaxed);
            format!("errorstat_{code}:count={n}")
        });
        lines.collect()
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.codes.write().clear();
        self.total.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code() {
        let stats = ErrorStats::default();
        stats.record(&CommandError::SYNTAX);
        stats.record(&CommandError::NOT_AN_INTEGER);
        stats.record(&CommandError::WRONG_TYPE);
        assert_eq!(stats.info_lines(), ["errorstat_ERR:count=2", "errorstat_WRONGTYPE:count=1"]);
        assert_eq!(stats.total(), 3);
        for n in 0..1_000 {
            stats.record(&CommandError::new(format!("MADEUP{n} by a script")));
        }
        assert_eq!(stats.info_lines().len(), CODES_MAX);
        assert_eq!(stats.total(), 1_003);
        stats.reset();
        assert!(stats.info_lines().is_empty() && stats.total() == 0);
    }
}
