//! Scripts that run for long: handing their thread over, BUSY, SCRIPT KILL and FUNCTION KILL.
//!
//! A script holds its shards, so what needs them waits; everything else goes on. Once a script
//! has run for `busy-reply-threshold`, those that wait for it are answered `BUSY`; and everybody
//! under `busy-reply-scope all`, for who watches for scripts that way.

use std::cell::RefCell;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_engine::CommandError;
use holdfast_engine::command::Args;
use holdfast_engine::host::{RunningFunction, ScriptKind, ScriptProgress};

use crate::config::Settings;
use crate::config::settings::BusyScope;

/// After so long a script, or a wait for a lock, no longer holds a worker thread.
const HAND_OVER_AFTER: Duration = Duration::from_millis(10);
/// How long a thread is given to take the tasks over: long enough for one that wakes at once …
const HAND_OVER_MIN: Duration = Duration::from_micros(500);
/// … or, for a script that goes on and on, for one that waits for a processor.
const HAND_OVER_MAX: Duration = Duration::from_millis(100);

/// One running script, once it has run for a moment.
#[derive(Debug)]
struct Running {
    kind: ScriptKind,
    since: Instant,
    /// The command that began it, cut as the slow log cuts commands.
    command: Vec<Vec<u8>>,
    busy: AtomicBool,
    wrote: AtomicBool,
    kill: AtomicBool,
}

impl Running {
    fn new(kind: ScriptKind, since: Instant, args: Args<'_>) -> Self {
        const ARGS_MAX: usize = 32;
        const ARG_LEN_MAX: usize = 128;
        let cut = |arg: &&[u8]| arg[..arg.len().min(ARG_LEN_MAX)].to_vec();
        let command = args.iter().take(ARGS_MAX).map(cut).collect();
        let [busy, wrote, kill] = [const { AtomicBool::new(false) }; 3];
        Self { kind, since, command, busy, wrote, kill }
    }
}

/// The scripts that have been running for a moment.
#[derive(Debug)]
pub struct Scripts {
    settings: Arc<Settings>,
    running: Mutex<Vec<Arc<Running>>>,
    busy: AtomicUsize,
    /// One of these made everybody else wait (`busy-reply-scope all`).
    refuses_all: AtomicBool,
}

/// The script of this thread.
#[derive(Debug)]
struct Current {
    kind: ScriptKind,
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
        Self {
            settings,
            running: Mutex::default(),
            busy: AtomicUsize::new(0),
            refuses_all: AtomicBool::new(false),
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a script has run for longer than `busy-reply-threshold`.
    #[must_use]
    pub fn any_busy(&self) -> bool {
        self.busy.load(Acquire) > 0
    }

    /// What a client is answered that may not run a command now, whatever its keys are.
    ///
    /// # Errors
    /// `BUSY …` under `busy-reply-scope all`, while a script has run for too long.
    #[inline]
    pub fn admit(&self) -> Result<(), CommandError> {
        if self.refuses_all.load(Acquire) { Err(self.busy_error()) } else { Ok(()) }
    }

    /// The way out that a client is told: by the kind of what has run for longest.
    #[cold]
    fn busy_error(&self) -> CommandError {
        let running = self.running();
        let busy = running.iter().filter(|script| script.busy.load(Acquire));
        match busy.min_by_key(|script| script.since).map(|script| script.kind) {
            Some(ScriptKind::Function) => CommandError::BUSY_FUNCTION,
            _ => CommandError::BUSY_SCRIPT,
        }
    }

    /// Follows the script of this thread.
    pub(crate) fn progress(&self, progress: ScriptProgress<'_>) -> Result<(), CommandError> {
        CURRENT.with_borrow_mut(|place| match progress {
            ScriptProgress::Begin(kind) => {
                *place = Some(Current {
                    kind,
                    since: Instant::now(),
                    running: None,
                    hand_over_at: HAND_OVER_AFTER,
                });
                Ok(())
            }
            ScriptProgress::Running { instructions, wrote, args } => match place {
                Some(current) => self.go_on(current, args, instructions, wrote),
                None => Ok(()),
            },
            ScriptProgress::End => {
                if let Some(running) = place.take().and_then(|current| current.running) {
                    let mut list = self.running();
                    list.retain(|other| !Arc::ptr_eq(other, &running));
                    self.count_busy(&list);
                }
                Ok(())
            }
        })
    }

    /// Puts in force what the scripts that are busy mean to the others.
    fn count_busy(&self, running: &[Arc<Running>]) {
        let busy = running.iter().filter(|script| script.busy.load(Acquire)).count();
        let all = self.settings.busy_reply_scope() == BusyScope::All;
        self.busy.store(busy, Release);
        self.refuses_all.store(all && busy > 0, Release);
    }

    fn go_on(
        &self,
        current: &mut Current,
        args: Args<'_>,
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
        let (kind, since) = (current.kind, current.since);
        let running = current.running.get_or_insert_with(|| {
            let running = Arc::new(Running::new(kind, since, args));
            self.running().push(Arc::clone(&running));
            running
        });
        running.wrote.store(wrote, Release);
        if running.kill.load(Acquire) {
            return Err(CommandError::known(match kind {
                ScriptKind::Script => "ERR Script killed by user with SCRIPT KILL...",
                ScriptKind::Function => "ERR Script killed by user with FUNCTION KILL...",
            }));
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
            self.count_busy(&self.running());
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
            return Err(self.busy_error());
        }
        // The wait sleeps in steps of a millisecond, so this is asked for about once per step.
        if waited_us > HAND_OVER_AFTER.as_micros() as u64 {
            hold_thread(HAND_OVER_MIN);
        }
        Ok(())
    }

    /// SCRIPT KILL or FUNCTION KILL: stops the scripts of this kind that run for long, unless
    /// they have written.
    ///
    /// # Errors
    /// `NOTBUSY …` when none runs, `UNKILLABLE …` when all that run have written, `BUSY …` when
    /// only the other kind runs.
    pub fn kill(&self, kind: ScriptKind) -> Result<(), CommandError> {
        let running = self.running();
        if running.is_empty() {
            return Err(CommandError::NOT_BUSY);
        }
        if running.iter().all(|script| script.kind != kind) {
            return Err(match kind {
                ScriptKind::Script => CommandError::BUSY_FUNCTION,
                ScriptKind::Function => CommandError::BUSY_SCRIPT,
            });
        }
        let running = running.iter().filter(|script| script.kind == kind);
        let mut any = false;
        for script in running.filter(|script| !script.wrote.load(Acquire)) {
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

impl Scripts {
    /// The function that has run for longest.
    #[must_use]
    pub fn running_function(&self) -> Option<RunningFunction> {
        let running = self.running();
        let functions = running.iter().filter(|script| script.kind == ScriptKind::Function);
        functions.min_by_key(|function| function.since).map(|function| RunningFunction {
            command: function.command.clone(),
            duration_ms: function.since.elapsed().as_millis() as u64,
        })
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
