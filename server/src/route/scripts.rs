//! Scripts that run for long: handing their thread over, BUSY and SCRIPT KILL.
//!
//! A script holds its shards, so what needs them waits; everything else goes on. Once a script
//! has run for `busy-reply-threshold`, those that wait for it are answered `BUSY`.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_engine::CommandError;
use holdfast_engine::host::ScriptProgress;

use crate::config::Settings;

/// After so long a script, or a wait for a lock, no longer holds a worker thread.
const HAND_OVER_AFTER: Duration = Duration::from_millis(10);
/// How long a thread is given to take the tasks over: long enough for one that wakes at once …
const HAND_OVER_MIN: Duration = Duration::from_micros(500);
/// … or, for a script that goes on and on, for one that waits for a processor.
const HAND_OVER_MAX: Duration = Duration::from_millis(100);

/// One running script, once it has run for a moment.
#[derive(Debug, Default)]
struct Running {
    busy: AtomicBool,
    wrote: AtomicBool,
    kill: AtomicBool,
}

/// The scripts that have been running for a moment.
#[derive(Debug)]
pub struct Scripts {
    settings: Arc<Settings>,
    running: Mutex<Vec<Arc<Running>>>,
    busy: AtomicUsize,
}

/// The script of this thread.
#[derive(Debug)]
struct Current {
    since: Instant,
    running: Option<Arc<Running>>,
    /// When its thread's tasks are next offered to another thread.
    hand_over_at: Duration,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

impl Scripts {
    /// None running.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, running: Mutex::default(), busy: AtomicUsize::new(0) }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a script has run for longer than `busy-reply-threshold`.
    #[must_use]
    pub fn any_busy(&self) -> bool {
        self.busy.load(Acquire) > 0
    }

    /// Follows the script of this thread.
    pub(crate) fn progress(&self, progress: ScriptProgress) -> Result<(), CommandError> {
        CURRENT.with_borrow_mut(|place| match progress {
            ScriptProgress::Begin => {
                *place = Some(Current {
                    since: Instant::now(),
                    running: None,
                    hand_over_at: HAND_OVER_AFTER,
                });
                Ok(())
            }
            ScriptProgress::Running { instructions, wrote } => match place {
                Some(current) => self.go_on(current, instructions, wrote),
                None => Ok(()),
            },
            ScriptProgress::End => {
                if let Some(running) = place.take().and_then(|current| current.running) {
                    self.running().retain(|other| !Arc::ptr_eq(other, &running));
                    if running.busy.load(Acquire) {
                        self.busy.fetch_sub(1, Release);
                    }
                }
                Ok(())
            }
        })
    }

    fn go_on(
        &self,
        current: &mut Current,
        instructions: u64,
        wrote: bool,
    ) -> Result<(), CommandError> {
        let elapsed = current.since.elapsed();
        if elapsed > current.hand_over_at {
            // Whether another thread did take them cannot be asked, and on a busy machine it may
            // come too late; so they are offered again, each time for longer.
            hold_thread((elapsed / 16).clamp(HAND_OVER_MIN, HAND_OVER_MAX));
            current.hand_over_at = elapsed * 2;
        }
        let running = current.running.get_or_insert_with(|| {
            let running = Arc::new(Running::default());
            self.running().push(Arc::clone(&running));
            running
        });
        running.wrote.store(wrote, Release);
        if running.kill.load(Acquire) {
            return Err(CommandError::known(
                "ERR Error running script: Script killed by user with SCRIPT KILL...",
            ));
        }
        let limit = self.settings.lua_instruction_limit();
        if limit > 0 && instructions > limit {
            return Err(CommandError::new(format!(
                "ERR script exceeded lua-instruction-limit ({limit} instructions)"
            )));
        }
        let threshold_ms = self.settings.busy_reply_threshold_ms();
        if threshold_ms > 0
            && elapsed.as_millis() >= u128::from(threshold_ms)
            && !running.busy.swap(true, Release)
        {
            self.busy.fetch_add(1, Release);
            tracing::warn!(
                "Slow script detected: still in execution after {} milliseconds. \
                 You can try killing the script using the SCRIPT KILL command.",
                elapsed.as_millis()
            );
        }
        Ok(())
    }

    /// Called while a command waits for a shard.
    pub(crate) fn waiting_for_lock(&self, waited_us: u64) -> Result<(), CommandError> {
        if self.any_busy() {
            return Err(CommandError::BUSY_SCRIPT);
        }
        // The wait sleeps in steps of a millisecond, so this is asked for about once per step.
        if waited_us > HAND_OVER_AFTER.as_micros() as u64 {
            hold_thread(HAND_OVER_MIN);
        }
        Ok(())
    }

    /// SCRIPT KILL: stops the scripts that run for long, unless they have written.
    ///
    /// # Errors
    /// `NOTBUSY …` when none runs, `UNKILLABLE …` when all that run have written.
    pub fn kill(&self) -> Result<(), CommandError> {
        let running = self.running();
        if running.is_empty() {
            return Err(CommandError::known("NOTBUSY No scripts in execution right now."));
        }
        let mut any = false;
        for script in running.iter().filter(|script| !script.wrote.load(Acquire)) {
            script.kill.store(true, Release);
            any = true;
        }
        if any {
            return Ok(());
        }
        Err(CommandError::known(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. \
             You can either wait the script termination or kill the server in a hard way using \
             the SHUTDOWN NOSAVE command.",
        ))
    }
}

/// Sleeps on this thread; if it is a worker, another takes its other tasks meanwhile, and keeps
/// them if it came to that before the sleep was over.
pub(crate) fn hold_thread(duration: Duration) {
    let multi_thread = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if multi_thread {
        tokio::task::block_in_place(|| std::thread::sleep(duration));
    }
}
