//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;

pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) workers: usize,
    pub(crate) nodes: u16,
    pub(crate) ttl: Duration,
    pub(crate) port_base: u16,
    pub(crate) server_bin: PathBuf,
    /// The control: workers that do not lock. The proof must then fail.
    pub(crate) without_lock: bool,
    /// Everything written goes here.
    pub(crate) dir: PathBuf,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            duration: Duration::from_secs(20),
            workers: 8,
            nodes: 5,
            ttl: Duration::from_millis(2000),
            port_base: 21700,
            server_bin: PathBuf::from("redis-server"),
            without_lock: false,
            dir: std::env::temp_dir().join(format!("holdfast-demo-{}", std::process::id())),
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            if name == "--without-lock" {
                options.without_lock = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--seconds" => options.duration = Duration::from_secs(value.parse()?),
                "--workers" => options.workers = value.parse()?,
                "--nodes" => options.nodes = value.parse()?,
                "--ttl-ms" => options.ttl = Duration::from_millis(value.parse()?),
                "--port-base" => options.port_base = value.parse()?,
                "--server-bin" => options.server_bin = PathBuf::from(value),
                "--dir" => options.dir = PathBuf::from(value),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.nodes < 3 || options.workers == 0 {
            return Err("a majority that survives a failure takes --nodes 3 or more, and at least one worker".into());
        }
        // The last restart must fall into the run, with time to work on after it.
        let needed = options.ttl * 4 + Duration::from_secs(4);
        if options.duration < needed {
            return Err(format!(
                "--seconds must be at least {} for this TTL",
                needed.as_secs() + 1
            )
            .into());
        }
        std::fs::create_dir_all(&options.dir)?;
        options.dir = options.dir.canonicalize()?;
        Ok(options)
    }

    pub(crate) fn counter(&self) -> PathBuf {
        self.dir.join("counter")
    }

    pub(crate) fn log(&self, worker: usize) -> PathBuf {
        self.dir.join(format!("worker-{worker}.log"))
    }

    /// Process ids of servers started, for whoever must clean up if this process cannot.
    pub(crate) fn pids(&self) -> PathBuf {
        self.dir.join("server-pids")
    }
}
