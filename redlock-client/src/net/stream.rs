//! An open byte stream to a server, whatever it runs over.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::net::address::Endpoint;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Boxed: one virtual call per read or write of a whole batch is nothing beside the system call.
pub(crate) type Stream = Box<dyn Duplex>;

/// Connects; the caller bounds the time.
pub(crate) async fn open(
    endpoint: &Endpoint,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Stream, String> {
    match endpoint {
        Endpoint::Tcp { host, port } => Ok(Box::new(tcp(host, *port).await?)),
        Endpoint::Tls { host, port } => {
            let config = tls.ok_or("TLS is not configured")?;
            let name = ServerName::try_from(host.clone())
                .map_err(|e| format!("{host:?} as a TLS name: {e}"))?;
            let stream = tcp(host, *port).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Ok(Box::new(stream.map_err(|e| format!("TLS: {e}"))?))
        }
        #[cfg(unix)]
        Endpoint::Unix { path } => {
            let stream = tokio::net::UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(|e| e.to_string())?))
        }
        #[cfg(not(unix))]
        Endpoint::Unix { .. } => Err("this system has no unix sockets".to_owned()),
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
    // Requests are small and each is waited for; Nagle would add a round trip to some.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}
