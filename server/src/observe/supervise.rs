//! Telling the service manager how we are: systemd's `Type=notify`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::settings::{Settings, Supervisor};

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
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
