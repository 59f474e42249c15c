//! The crate rslock, unmodified, over several servers.
//!
//! `rslock-checks check PORT…` does ordinary work; `rslock-checks bench SECONDS TASKS PORT…` prints how
//! many times a second a lock is acquired and released, each task having its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rslock::{LockError, LockManager};

fn main() {
    let mut runtime = match std::env::var("THREADS").as_deref() {
        Ok("1") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build().expect("a runtime").block_on(run());
}

async fn run() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args[0].as_str() {
        "check" => check(&manager(&args[1..])).await,
        _ => {
            let seconds = args[1].parse().expect("seconds");
            bench(seconds, args[2].parse().expect("tasks"), &manager(&args[3..])).await;
        }
    }
}

fn manager(ports: &[String]) -> LockManager {
    LockManager::new(ports.iter().map(|port| format!("redis://127.0.0.1:{port}/")).collect())
}

async fn check(manager: &LockManager) {
    let ttl = Duration::from_secs(10);
    let lock = manager.lock("rslock", ttl).await.expect("a free lock");
    let mut impatient = manager.clone();
    impatient.set_retry(1, Duration::from_millis(10));
    assert!(matches!(impatient.lock("rslock", ttl).await, Err(LockError::Unavailable)));
    let extended = manager.extend(&lock, Duration::from_secs(20)).await.expect("an extension");
    assert!(extended.validity_time > 15_000);
    manager.unlock(&extended).await;
    let lock = impatient.lock("rslock", ttl).await.expect("it was released");
    manager.unlock(&lock).await;

    let total = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (manager, total) = (manager.clone(), Arc::clone(&total));
        tasks.spawn(async move {
            for _ in 0..10 {
                let lock = loop {
                    match manager.lock("counter", Duration::from_secs(30)).await {
                        Ok(lock) => break lock,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                };
                let seen = total.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                total.store(seen + 1, Ordering::SeqCst);
                manager.unlock(&lock).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
    assert_eq!(total.load(Ordering::SeqCst), 60);
    println!("rslock: ok");
}

async fn bench(seconds: u64, tasks: usize, manager: &LockManager) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let manager = manager.clone();
        running.spawn(async move {
            let key = format!("bench:{task}");
            let mut done = 0_u64;
            while Instant::now() < until {
                let lock = manager.lock(key.as_str(), Duration::from_secs(10)).await;
                manager.unlock(&lock.expect("nobody else wants it")).await;
                done += 1;
            }
            done
        });
    }
    let mut total = 0;
    while let Some(done) = running.join_next().await {
        total += done.expect("no panic");
    }
    println!("{}", total / seconds);
}
