//! The scripts a node knows by name.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use crate::command::{Reach, ScriptFlags};
use crate::script::Sha;

/// Scripts that EVAL brought and nobody loaded: the oldest are forgotten beyond so many, for
/// clients that put values into script texts would fill the memory. SCRIPT LOAD keeps its own.
pub const EVAL_SCRIPTS_MAX: usize = 500;

/// A script.
#[derive(Debug)]
pub struct Script {
    /// Its text.
    pub body: Box<[u8]>,
    /// What its first line promises.
    pub flags: Option<ScriptFlags>,
    /// Whether it keeps to the keys it declares.
    pub reach: Reach,
    loaded: AtomicBool,
}

/// Scripts by name.
#[derive(Debug, Default)]
pub struct Scripts {
    by_sha: DashMap<Sha, Arc<Script>, foldhash::fast::FixedState>,
    /// Names of the scripts that EVAL brought, oldest first.
    evaluated: Mutex<VecDeque<Sha>>,
    body_bytes: AtomicUsize,
}

impl Scripts {
    /// The script of this name.
    #[must_use]
    pub fn find(&self, sha: &Sha) -> Option<Arc<Script>> {
        self.by_sha.get(sha).map(|script| Arc::clone(&script))
    }

    /// Every script's text and whether SCRIPT LOAD keeps it: those first that will be, then the
    /// others in the order in which they came.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<Script>, bool)> {
        let mut all: Vec<_> = self
            .by_sha
            .iter()
            .filter(|script| script.loaded.load(Relaxed))
            .map(|script| (Arc::clone(&script), true))
            .collect();
        let evaluated = self.evaluated.lock().unwrap_or_else(PoisonError::into_inner);
        let others = evaluated.iter().filter_map(|sha| self.find(sha));
        all.extend(
            others.filter(|script| !script.loaded.load(Relaxed)).map(|script| (script, false)),
        );
        all
    }

    /// How many scripts there are, and the bytes of their texts.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.by_sha.len(), self.body_bytes.load(Relaxed))
    }

    fn insert(&self, sha: Sha, body: &[u8], flags: Option<ScriptFlags>) -> (Arc<Script>, bool) {
        let mut new = false;
        let script = self.by_sha.entry(sha).or_insert_with(|| {
            new = true;
            self.body_bytes.fetch_add(body.len(), Relaxed);
            Arc::new(Script {
                body: body.into(),
                flags,
                reach: Reach::default(),
                loaded: AtomicBool::new(false),
            })
        });
        (Arc::clone(&script), new)
    }

    /// Keeps a script that EVAL brought, for a while.
    pub fn remember(&self, sha: Sha, body: &[u8], flags: Option<ScriptFlags>) -> Arc<Script> {
        let (script, new) = self.insert(sha, body, flags);
        if new {
            let mut evaluated = self.evaluated.lock().unwrap_or_else(PoisonError::into_inner);
            evaluated.push_back(sha);
            if evaluated.len() > EVAL_SCRIPTS_MAX
                && let Some(oldest) = evaluated.pop_front()
                && let Some((_, gone)) =
                    self.by_sha.remove_if(&oldest, |_, script| !script.loaded.load(Relaxed))
            {
                self.body_bytes.fetch_sub(gone.body.len(), Relaxed);
            }
        }
        script
    }

    /// Keeps a script until SCRIPT FLUSH.
    pub fn load(&self, sha: Sha, body: &[u8], flags: Option<ScriptFlags>) {
        self.insert(sha, body, flags).0.loaded.store(true, Relaxed);
    }

    /// Forgets all scripts.
    pub fn flush(&self) {
        self.by_sha.clear();
        self.evaluated.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.body_bytes.store(0, Relaxed);
    }
}
