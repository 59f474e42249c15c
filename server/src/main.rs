//! The `holdfast-server` binary: configuration, runtime, signals.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use holdfast::acl::{Catalogue, Users};
use holdfast::admin::persistence;
use holdfast::commit::raft::identity::Identity;
use holdfast::config::settings::ShutdownFlags;
use holdfast::config::{Config, Request, Settings};
use holdfast::limits::descriptors;
use holdfast::net::listener::Listeners;
use holdfast::net::members;
use holdfast::node::{Node, Shutdown, raft_dir};
use holdfast::observe::{logging, supervise};
use holdfast::persist::claim::Claims;
use holdfast::persist::journal::{Location, Names};
use holdfast::quarantine::Quarantine;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: holdfast::alloc::CountingAlloc = holdfast::alloc::CountingAlloc;

/// When loading takes longer, clients are admitted and told so.
const ADMIT_AFTER: Duration = Duration::from_millis(100);
/// How long clients may take to be sent what they were answered.
const DRAIN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(Request::Serve(config)) => *config,
        Ok(Request::RepairJournal(dir)) => return repair_journal(dir),
        Ok(Request::Check(config, text)) => return check(&config, &text),
        Ok(Request::Print(text)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = holdfast::route::rename::apply(config.renamed_commands()) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = logging::start(&config) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "Can't open the log file: {error}");
        return ExitCode::FAILURE;
    }
    if config.settings().disable_thp() {
        small_pages();
    }
    let workers = config.settings().worker_threads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("worker")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config, workers));
            runtime.shutdown_timeout(DRAIN);
            code
        }
        Err(error) => {
            tracing::error!("the worker threads could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps the kernel from giving the process huge pages, of which every thread and size of
/// allocation would hold one that is hardly used. The allocator does not ask for any either
/// (its feature `no_thp`), so that those before this call are small, too.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages could not be disabled");
    }
}

/// A write beyond the process's file size limit: an error like that of a full disk, if someone
/// listens to the signal.
const FILE_SIZE_EXCEEDED: SignalKind = SignalKind::from_raw(25);

async fn serve(config: Config, workers: usize) -> ExitCode {
    let _listened_to = signal(FILE_SIZE_EXCEEDED);
    // Before anything is read there.
    let claims = match claim_dirs(config.settings()) {
        Ok(claims) => claims,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let node = Node::holding(config, claims);
    if let Err(error) = descriptors::begin(&node) {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    let aclfile = node.settings.aclfile();
    if let Err(error) = holdfast::acl::file::begin(&node.acl, node.config.users(), &aclfile) {
        tracing::error!("Aborting Redis startup because of ACL errors: {error}");
        return ExitCode::FAILURE;
    }
    let listeners = match Listeners::bind(&node) {
        Ok(listeners) => listeners,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    write_pidfile(&node);
    if let Err(error) = members::start(&node).await {
        tracing::error!("Raft could not be started: {error}");
        return ExitCode::FAILURE;
    }
    let addresses = listeners.addresses();
    node.persist.loading.begin(node.clock.now_ms() / 1000);
    persistence::follow_settings(&node);
    let loader = Arc::clone(&node);
    let mut loading = tokio::task::spawn_blocking(move || persistence::load_at_start(&loader));
    let Some(mut ends) = Ends::new(&node) else {
        tracing::error!("signals cannot be handled");
        return ExitCode::FAILURE;
    };
    let mut listeners = Some(listeners);
    let loaded = loop {
        tokio::select! {
            loaded = &mut loading => break loaded,
            () = tokio::time::sleep(ADMIT_AFTER), if listeners.is_some() => {
                // From now on clients are told why they must wait.
                if let Some(listeners) = listeners.take() {
                    listeners.accept(&node);
                }
            }
            _ = ends.next() => {
                // Nothing has changed, and half a data set is not worth saving.
                remove_pidfile(&node);
                tracing::warn!("Holdfast is now ready to exit, bye bye...");
                return ExitCode::SUCCESS;
            }
        }
    };
    match loaded {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!("Fatal error loading the data set: {error}. Exiting.");
            remove_pidfile(&node);
            return ExitCode::FAILURE;
        }
        Err(error) => {
            tracing::error!("loading the data set failed: {error}. Exiting.");
            return ExitCode::FAILURE;
        }
    }
    // A member's locks and tokens are in its Raft log: it forgets none.
    let forgets = node.raft().is_none_or(|raft| raft.running().is_none());
    if forgets && let Err(error) = node.open_locks() {
        tracing::error!(
            "Can't read what the last run left of its locks: {error}. To start without it, move \
             the file away and give lock-quarantine the longest time to live of your locks in ms, \
             and lock-token-floor a number above every token that was given out."
        );
        remove_pidfile(&node);
        return ExitCode::FAILURE;
    }
    node.persist.loading.end();
    if let Some(listeners) = listeners {
        listeners.accept(&node);
    }
    tokio::spawn(holdfast::net::cron::run(Arc::clone(&node)));
    tokio::spawn(holdfast::route::lock_queue::run(Arc::clone(&node)));
    logging::set_role(logging::Role::Master);
    tracing::info!(
        "Ready to accept connections on {} ({workers} worker thread{})",
        addresses.join(", "),
        if workers == 1 { "" } else { "s" }
    );
    supervise::notify(&node.settings, "READY=1");
    loop {
        let Some(flags) = ends.next().await else { break };
        let save = flags.save || !flags.nosave && !node.settings.save_points().is_empty();
        let saver = Arc::clone(&node);
        let prepared = tokio::task::spawn_blocking(move || {
            persistence::prepare_end(&saver, save, flags.force)
        });
        if prepared.await.unwrap_or(false) {
            break;
        }
        tracing::error!(
            "the signal is not followed, for data would be lost; check the log, or use SHUTDOWN \
             with FORCE"
        );
    }
    supervise::notify(&node.settings, "STOPPING=1");
    members::hand_over_before_end(&node).await;
    node.request_shutdown();
    tokio::time::sleep(Duration::from_millis(20)).await;
    node.quarantine.refuse();
    let whole = persistence::at_end(&node);
    node.close_locks(whole && node.settings.appendonly());
    remove_pidfile(&node);
    tracing::warn!("Holdfast is now ready to exit, bye bye...");
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Enters the data directory.
fn enter_dir(settings: &Settings) -> Result<(), String> {
    let dir = settings.dir();
    std::env::set_current_dir(&dir)
        .map_err(|error| format!("can't change to directory {}: {error}", dir.display()))
}

/// Refuses to start beside a member's data as anything but that member.
fn check_raft_dir(settings: &Settings) -> Result<(), String> {
    let raft_dir = raft_dir(settings);
    if !settings.raft() && Identity::is_in(&raft_dir) {
        return Err(format!(
            "{} holds the data of a cluster's member, and 'raft' is 'no': start with --raft yes, \
             or, if this server is to begin without that data, move the directory away or give \
             another 'dir'",
            raft_dir.display()
        ));
    }
    Ok(())
}

/// Enters the data directory and claims what state will be kept in.
fn claim_dirs(settings: &Settings) -> Result<Claims, String> {
    enter_dir(settings)?;
    let granted = Quarantine::was_used(&settings.dir());
    let claims = Claims::at_start(settings, &raft_dir(settings), granted);
    let claims = claims.map_err(|error| error.to_string())?;
    check_raft_dir(settings)?;
    Ok(claims)
}

/// `--check`: whether a start would refuse the configuration. Neither ports nor locks are taken: a
/// server may be running with it.
fn check(config: &Config, text: &str) -> ExitCode {
    use std::io::Write;
    let settings = config.settings();
    let checked = holdfast::route::rename::apply(config.renamed_commands())
        .map_err(|error| error.to_string())
        .and_then(|()| enter_dir(settings))
        .and_then(|()| check_raft_dir(settings))
        .and_then(|()| match settings.raft() {
            true => members::acceptable(config).map(drop),
            false => Ok(()),
        })
        .and_then(|()| {
            let catalogue = Catalogue::new(holdfast::route::table().rows());
            let users = Users::new(catalogue, Arc::clone(settings));
            holdfast::acl::file::begin(&users, config.users(), &settings.aclfile())
        });
    match checked {
        Ok(()) => {
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "the server would not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `--repair-journal DIR`
fn repair_journal(dir: std::path::PathBuf) -> ExitCode {
    use std::io::Write;
    // The prefix of the names is that of the manifest that is there.
    let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let manifest = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| name.strip_suffix(".manifest").map(str::to_owned));
    let names = Names::new(manifest.as_deref().unwrap_or("appendonly.aof").as_bytes());
    match holdfast::persist::journal::repair(&Location { dir, names }) {
        Ok(lines) => {
            let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "the journal cannot be repaired: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What ends the process: SIGTERM, SIGINT and SHUTDOWN.
struct Ends {
    node: Arc<Node>,
    shutdown: tokio::sync::watch::Receiver<Shutdown>,
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new(node: &Arc<Node>) -> Option<Self> {
        Some(Self {
            node: Arc::clone(node),
            shutdown: node.shutdown_signal(),
            terminate: signal(SignalKind::terminate()).ok()?,
            interrupt: signal(SignalKind::interrupt()).ok()?,
        })
    }

    /// The next of them: what a signal asks for, or `None` for SHUTDOWN, which has seen to all.
    async fn next(&mut self) -> Option<ShutdownFlags> {
        tokio::select! {
            _ = self.terminate.recv() => {
                tracing::warn!("Received SIGTERM scheduling shutdown...");
                Some(self.node.settings.shutdown_on_sigterm())
            }
            _ = self.interrupt.recv() => {
                tracing::warn!("Received SIGINT scheduling shutdown...");
                Some(self.node.settings.shutdown_on_sigint())
            }
            _ = self.shutdown.wait_for(|state| *state != Shutdown::No) => {
                tracing::warn!("User requested shutdown...");
                None
            }
        }
    }
}

fn write_pidfile(node: &Node) {
    let path = node.settings.pidfile();
    if !path.is_empty() {
        let path = holdfast::config::settings::path(&path);
        if let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id())) {
            tracing::warn!("the pid file {} could not be written: {error}", path.display());
        }
    }
}

fn remove_pidfile(node: &Node) {
    let path = node.settings.pidfile();
    if !path.is_empty() {
        let _ = std::fs::remove_file(holdfast::config::settings::path(&path));
    }
}
