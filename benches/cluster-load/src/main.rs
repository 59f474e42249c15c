//! Load for a cluster, ours or etcd's: `cluster-load TARGET OP CLIENTS SECONDS HOST:PORT…`.
//!
//! TARGET is `resp` or `etcd`, OP is `put`, `get` or `lock`. Every client does one thing after the other:
//! writes a value of 100 bytes under one of 100,000 keys, reads one linearizably, or takes and gives up a
//! lock of its own. Of the addresses the leader's is found and used, which is the best either can do.
//! Prints a line: operations per second, p50, p99 and the greatest latency in microseconds, errors.

mod etcd;
mod resp;

use std::future::Future;
use std::time::{Duration, Instant};

/// What every client does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Put,
    Get,
    Lock,
}

/// Length of the values written.
const VALUE_LEN: usize = 100;
/// How many keys there are.
const KEYS: u64 = 100_000;
/// Not counted: connections are made and caches warmed.
const WARM_UP: Duration = Duration::from_millis(500);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client of either kind.
trait Client: Send + 'static {
    /// Does it once, with the key of that number.
    fn act(&mut self, op: Op, key: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Numbers that spread (splitmix64).
fn spread(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn drive<C: Client>(mut clients: Vec<C>, op: Op, seconds: u64) -> Result<(), Failure> {
    let began = Instant::now() + WARM_UP;
    let until = began + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for (number, mut client) in clients.drain(..).enumerate() {
        tasks.push(tokio::spawn(async move {
            let mut state = number as u64;
            let (mut times, mut errors) = (Vec::new(), 0_u64);
            loop {
                let start = Instant::now();
                if start >= until {
                    return (times, errors);
                }
                match client.act(op, spread(&mut state) % KEYS).await {
                    Ok(()) if start >= began => times.push(start.elapsed().as_micros() as u64),
                    Ok(()) => {}
                    Err(error) => {
                        if errors == 0 {
                            eprintln!("cluster-load: {error}");
                        }
                        errors += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        }));
    }
    let (mut times, mut errors) = (Vec::new(), 0);
    for task in tasks {
        let (more, failed) = task.await?;
        times.extend(more);
        errors += failed;
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
    let most = times.last().copied().unwrap_or(0);
    println!("{} {} {} {most} {errors}", times.len() as u64 / seconds, at(50), at(99));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, op, clients, seconds, addrs @ ..] = args.as_slice() else {
        return Err("usage: cluster-load resp|etcd put|get|lock CLIENTS SECONDS HOST:PORT…".into());
    };
    let op = match op.as_str() {
        "put" => Op::Put,
        "get" => Op::Get,
        "lock" => Op::Lock,
        other => return Err(format!("put, get or lock, not {other:?}").into()),
    };
    let (clients, seconds) = (clients.parse::<usize>()?, seconds.parse::<u64>()?.max(1));
    match target.as_str() {
        "resp" => drive(resp::connect(addrs, clients).await?, op, seconds).await,
        "etcd" => drive(etcd::connect(addrs, clients).await?, op, seconds).await,
        other => Err(format!("resp or etcd, not {other:?}").into()),
    }
}
