//! The resource that the locks guard: registers that check fencing tokens, or, as a control, do not.
//!
//! A client reads a register and writes back one more. So what was acknowledged and what the register
//! says must agree, unless somebody wrote late over what another had written.
//!
//! `read NAME TOKEN` is answered `value N`, `write NAME TOKEN N` is answered `ok`; both `stale` when
//! a greater token has been seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Registers whose names begin so take any token.
pub(crate) const UNFENCED: &str = "control";

/// One register.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Register {
    newest_token: u64,
    /// What it says.
    pub(crate) value: u64,
    /// Writes acknowledged; each was of one more than what its writer had read.
    pub(crate) acknowledged: u64,
    /// Requests refused for their token.
    pub(crate) refused: u64,
}

/// All registers.
#[derive(Debug, Default)]
pub(crate) struct Store {
    registers: Mutex<BTreeMap<String, Register>>,
    /// Whether tokens are checked.
    pub(crate) fenced: bool,
}

impl Store {
    pub(crate) const fn new(fenced: bool) -> Self {
        Self { registers: Mutex::new(BTreeMap::new()), fenced }
    }

    pub(crate) fn registers(&self) -> BTreeMap<String, Register> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(name), Some(Ok(token))) =
            (words.get(1), words.get(2).map(|token| token.parse::<u64>()))
        else {
            return format!("error {line:?}");
        };
        let checks = self.fenced && !name.starts_with(UNFENCED);
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        let register = registers.entry((*name).to_owned()).or_default();
        if checks && token < register.newest_token {
            register.refused += 1;
            return "stale".to_owned();
        }
        register.newest_token = register.newest_token.max(token);
        match (words[0], words.get(3).map(|value| value.parse::<u64>())) {
            ("read", None) => format!("value {}", register.value),
            ("write", Some(Ok(value))) => {
                register.value = value;
                register.acknowledged += 1;
                "ok".to_owned()
            }
            _ => format!("error {line:?}"),
        }
    }

    /// Serves on a port of its own.
    pub(crate) async fn serve(self: Arc<Self>) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).converse(stream));
            }
        });
        Ok(addr)
    }

    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = self.answer(&line) + "\n";
            if write.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// A client's connection to the store.
#[derive(Debug)]
pub(crate) struct Access {
    lines: tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Access {
    pub(crate) async fn connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self { lines: BufReader::new(read).lines(), write })
    }

    async fn ask(&mut self, line: String) -> std::io::Result<String> {
        self.write.write_all(line.as_bytes()).await?;
        self.lines.next_line().await?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// The register's value; `None` if the token is stale.
    pub(crate) async fn read(&mut self, name: &str, token: u64) -> std::io::Result<Option<u64>> {
        let answer = self.ask(format!("read {name} {token}\n")).await?;
        Ok(answer.strip_prefix("value ").and_then(|value| value.parse().ok()))
    }

    /// Whether the write was taken.
    pub(crate) async fn write(
        &mut self,
        name: &str,
        token: u64,
        value: u64,
    ) -> std::io::Result<bool> {
        Ok(self.ask(format!("write {name} {token} {value}\n")).await? == "ok")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_token_is_refused_but_for_the_control() {
        let store = Store::new(true);
        assert_eq!(store.answer("read a 7"), "value 0");
        assert_eq!(store.answer("write a 7 1"), "ok");
        assert_eq!(store.answer("read a 9"), "value 1");
        assert_eq!(store.answer("write a 7 2"), "stale");
        assert_eq!(store.answer("write a 9 2"), "ok");
        assert_eq!(store.answer("read control 9"), "value 0");
        assert_eq!(store.answer("write control 1 5"), "ok");
        assert!(store.answer("write a").starts_with("error"));
        let registers = store.registers();
        assert_eq!((registers["a"].value, registers["a"].acknowledged), (2, 2));
        assert_eq!(registers["a"].refused, 1);
    }
}
