//! Where a node is and how to log in there, from a URL.
//!
//! Parsed by hand: the grammar is small, and errors can then say what is wrong with *this* URL.
//! Neither `Display` nor `Debug` ever shows a password.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;

const PORT_DEFAULT: u16 = 6379;

/// How to reach the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix { path: PathBuf },
}

/// Wire protocol to speak after the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Resp2,
    Resp3,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
    pub(crate) protocol: Protocol,
}

impl Address {
    /// Parses `redis://`, `rediss://` and `unix://` URLs.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        // The URL itself is not repeated whole in errors: it may hold a password.
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            config(
                url,
                "has no scheme: write redis://host:port, rediss://host:port or unix:///path",
            )
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            return Err(config(
                scheme,
                "has a fragment (#...): percent-encode a # in a password as %23",
            ));
        }
        let mut address = match scheme {
            "redis" | "rediss" => Self::parse_network(scheme, rest)?,
            "unix" | "redis+unix" => Self::parse_unix(scheme, rest)?,
            _ => {
                return Err(config(
                    scheme,
                    "is not a scheme for a node: use redis, rediss or unix",
                ));
            }
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(scheme, value)?;
            match (name, value.as_str()) {
                ("protocol", "resp2" | "2") => address.protocol = Protocol::Resp2,
                ("protocol", "resp3" | "3") => address.protocol = Protocol::Resp3,
                ("db", number) => address.database = parse_database(scheme, number)?,
                ("user", user) => address.user = Some(user.to_owned()),
                ("pass", password) => address.password = Some(password.to_owned()),
                _ => {
                    return Err(config(
                        scheme,
                        &format!(
                            "has the unknown parameter {name:?}: protocol, db, user and pass are known"
                        ),
                    ));
                }
            }
        }
        if address.user.is_some() && address.password.is_none() {
            return Err(config(scheme, "names a user but no password: write user:password@"));
        }
        Ok(address)
    }

    fn parse_network(scheme: &str, rest: &str) -> Result<Self, Error> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password, host_port) = split_credentials(scheme, authority)?;
        let (host, port) = split_port(scheme, host_port)?;
        let endpoint = if scheme == "rediss" {
            Endpoint::Tls { host, port }
        } else {
            Endpoint::Tcp { host, port }
        };
        let database = if path.is_empty() { 0 } else { parse_database(scheme, path)? };
        Ok(Self { endpoint, user, password, database, protocol: Protocol::Resp2 })
    }

    fn parse_unix(scheme: &str, rest: &str) -> Result<Self, Error> {
        let start = rest
            .find('/')
            .ok_or_else(|| config(scheme, "has no absolute path: write unix:///path/to/socket"))?;
        let (authority, path) = rest.split_at(start);
        let (user, password, host) = split_credentials(scheme, authority)?;
        if !host.is_empty() {
            return Err(config(scheme, "has a host: write unix:///path, with three slashes"));
        }
        Ok(Self {
            endpoint: Endpoint::Unix { path: PathBuf::from(percent_decode(scheme, path)?) },
            user,
            password,
            database: 0,
            protocol: Protocol::Resp2,
        })
    }
}

fn config(what: &str, problem: &str) -> Error {
    Error::Config(format!("node URL {what:?} {problem}"))
}

/// Splits `user:password@host`; a single field before `@` is a user name, as in Redis' own URLs.
fn split_credentials<'a>(
    scheme: &str,
    authority: &'a str,
) -> Result<(Option<String>, Option<String>, &'a str), Error> {
    let Some((credentials, host)) = authority.rsplit_once('@') else {
        return Ok((None, None, authority));
    };
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(percent_decode(scheme, password)?)),
        None => (credentials, None),
    };
    let user = Some(percent_decode(scheme, user)?).filter(|user| !user.is_empty());
    Ok((user, password, host))
}

fn split_port(scheme: &str, host_port: &str) -> Result<(String, u16), Error> {
    let (host, port) = if let Some(rest) = host_port.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or_else(|| config(scheme, "has an unclosed [ around its IPv6 address"))?;
        match after {
            "" => (host, None),
            _ => (
                host,
                Some(after.strip_prefix(':').ok_or_else(|| {
                    config(scheme, "has something other than :port after its IPv6 address")
                })?),
            ),
        }
    } else {
        match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        }
    };
    if host.is_empty() {
        return Err(config(scheme, "has no host"));
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => port.parse().map_err(|_| {
            config(
                scheme,
                &format!(
                    "has the port {port:?}: use 1 to 65535, and [brackets] around an IPv6 address"
                ),
            )
        })?,
    };
    Ok((host.to_owned(), port))
}

fn parse_database(scheme: &str, number: &str) -> Result<u32, Error> {
    number
        .parse()
        .map_err(|_| config(scheme, &format!("has the database {number:?}: use a number")))
}

fn percent_decode(scheme: &str, text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let decoded = rest
            .split_at_checked(2)
            .and_then(|(digits, tail)| Some((std::str::from_utf8(digits).ok()?, tail)))
            .and_then(|(digits, tail)| Some((u8::from_str_radix(digits, 16).ok()?, tail)));
        let (decoded, tail) = decoded
            .ok_or_else(|| config(scheme, "has a % that two hexadecimal digits do not follow"))?;
        bytes.push(decoded);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| config(scheme, "is not UTF-8 after percent-decoding"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match &self.endpoint {
            Endpoint::Tcp { host, port } => ("redis", host, port),
            Endpoint::Tls { host, port } => ("rediss", host, port),
            Endpoint::Unix { path } => return write!(f, "unix://{}", path.display()),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")?;
        } else {
            write!(f, "{scheme}://{host}:{port}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    #[test]
    fn urls_of_every_kind_are_understood() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.to_owned(), port };
        assert_eq!(parse("redis://a").endpoint, tcp("a", 6379));
        assert_eq!(parse("redis://[::1]:7000/").endpoint, tcp("::1", 7000));
        assert_eq!(parse("redis://[::1]").endpoint, tcp("::1", 6379));
        assert!(matches!(parse("rediss://a:1").endpoint, Endpoint::Tls { port: 1, .. }));

        let full = parse("redis://us%3Aer:p%40ss:w@h:1/5?protocol=resp3");
        assert_eq!(full.user.as_deref(), Some("us:er"));
        assert_eq!(full.password.as_deref(), Some("p@ss:w"));
        assert_eq!((full.database, full.protocol), (5, Protocol::Resp3));

        let password_only = parse("redis://:secret@h");
        assert_eq!(password_only.user, None);
        assert_eq!(password_only.password.as_deref(), Some("secret"));

        let unix = parse("unix:///run/redis.sock?db=2&pass=x");
        assert_eq!(unix.endpoint, Endpoint::Unix { path: "/run/redis.sock".into() });
        assert_eq!((unix.database, unix.password.as_deref()), (2, Some("x")));
    }

    #[test]
    fn bad_urls_are_refused_without_showing_the_password() {
        for url in [
            "localhost:6379",
            "http://a",
            "redis://",
            "redis://a:99999",
            "redis://a:b:c",
            "redis://[::1",
            "redis://[::1]x",
            "redis://a/x",
            "redis://user@a",
            "redis://a?nonsense=1",
            "redis://:hunter2@a/%zz?db=%z",
            "redis://:hunter2@a#f",
            "unix://path",
            "unix://host/path",
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let address = parse("redis://u:hunter2@a:1/3");
        assert_eq!(address.to_string(), "redis://a:1/3");
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
