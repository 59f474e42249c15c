//! What service managers ask of us: systemd's `Type=notify`, and a file with our process id.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use crate::config::settings::{Settings, Supervisor, path};

/// Sends `state` (`READY=1`, `STOPPING=1`, `STATUS=…`) if `supervised` asks for it. Without a
/// manager, or an unreachable one, it is logged and nothing else happens.
pub fn notify(settings: &Settings, state: &str) {
    let path = std::env::var("NOTIFY_SOCKET").ok();
    let path = match (settings.supervised(), path) {
        (Supervisor::None, _) | (Supervisor::Auto, None) => return,
        (Supervisor::Upstart, _) => {
            tracing::warn!("'supervised upstart' has no effect here: nobody is told");
            return;
        }
        (Supervisor::Systemd, None) => {
            tracing::warn!("systemd supervision requested, but NOTIFY_SOCKET was not found");
            return;
        }
        (Supervisor::Systemd | Supervisor::Auto, Some(path)) => path,
    };
    if let Err(error) = send(&path, state) {
        tracing::warn!("systemd could not be told '{state}': {error}");
    }
}

fn send(path: &str, state: &str) -> io::Result<()> {
    // A leading @ is systemd's spelling of an abstract socket.
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// The file named by `pidfile`, while this value lives.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes our process id where `pidfile` says, if it does. A file that cannot be written is
    /// logged and otherwise ignored, as Redis does.
    #[must_use]
    pub fn create(settings: &Settings) -> Self {
        let file = settings.pidfile();
        if file.is_empty() {
            return Self(None);
        }
        let path = path(&file);
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            // Absolute, for the working directory may change.
            Ok(()) => Self(Some(std::path::absolute(&path).unwrap_or(path))),
            Err(error) => {
                tracing::warn!("Failed to write PID file {}: {error}", path.display());
                Self(None)
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Request};

    #[test]
    fn the_manager_hears_what_is_said() {
        let name = format!("holdfast-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("free");
        send(&format!("@{name}"), "READY=1").expect("heard");
        let mut heard = [0; 64];
        let len = manager.recv(&mut heard).expect("sent");
        assert_eq!(&heard[..len], b"READY=1");
        assert!(send("/no/such/socket", "READY=1").is_err());
    }

    #[test]
    fn the_pid_file_is_there_while_it_is_held() {
        let path = std::env::temp_dir().join(format!("holdfast-pid-{}", std::process::id()));
        let text = path.to_str().expect("utf-8");
        let config = match Config::from_args(["x", "--pidfile", text]) {
            Ok(Request::Serve(config)) => config,
            other => panic!("{other:?}"),
        };
        let held = PidFile::create(config.settings());
        let content = std::fs::read_to_string(&path).expect("written");
        assert_eq!(content, format!("{}\n", std::process::id()));
        drop(held);
        assert!(!path.exists());
        drop(PidFile::create(Config::default().settings()));
    }
}
