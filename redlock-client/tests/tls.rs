//! `rediss://` against Debian's redis-server, with a certificate authority made for the test.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::time::Duration;

use common::LONG;
use common::server::{Server, find};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redlock_client::{Builder, Error, RedLock, Retry, Tls};

fn client(port: u16) -> Builder {
    RedLock::builder()
        .node(format!("rediss://localhost:{port}"))
        .node_timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(5))
        .retry(Retry::none())
}

#[tokio::test]
async fn certificates_are_verified_unless_told_otherwise() {
    let Some(binary) = find("redis-server") else {
        common::server::skipped("no redis-server in PATH; TLS was not tested");
        return;
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();

    let files = std::env::temp_dir().join(format!("redlock-tls-{}", std::process::id()));
    std::fs::create_dir_all(&files).unwrap();
    let path = |name: &str| files.join(name).display().to_string();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(path("ca.pem"), &ca_pem).unwrap();
    let tls_port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let _server = Server::start(
        &binary,
        &[
            "--tls-port",
            &tls_port,
            "--tls-cert-file",
            &path("cert.pem"),
            "--tls-key-file",
            &path("key.pem"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
            "--tls-auth-clients",
            "no",
        ],
    )
    .await;
    let port = tls_port.parse().unwrap();

    for tls in [Tls::with_ca_pem(&ca_pem).unwrap(), Tls::insecure_without_verification().unwrap()] {
        let redlock = client(port).tls(tls).build().unwrap();
        let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
        guard.extend(LONG).await.unwrap();
        guard.release().await.unwrap();
    }

    let stranger = CertificateParams::new(Vec::<String>::new()).unwrap();
    let stranger = stranger.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let redlock = client(port).tls(Tls::with_ca_pem(stranger).unwrap()).build().unwrap();
    let error = redlock.lock("k", LONG).acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.to_string().contains("TLS"), "{error}");
    std::fs::remove_dir_all(&files).unwrap();
}

#[test]
fn a_ca_that_is_none_is_refused() {
    assert!(matches!(Tls::with_ca_pem("not PEM"), Err(Error::Config(_))));
}
