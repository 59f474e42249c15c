//! Faults, one after the other, each healed and followed by a look whether locks can be had again.

use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clock::now_ns;
use crate::rig::{GROUPS, Rig, signal};

/// After a fault is over, each lock must be taken by somebody within this.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

type Fault = (&'static str, fn(&mut Rig) -> Result<(), String>);

const FAULTS: &[Fault] = &[
    ("kill -9 of a server", kill_one),
    ("a server restarted empty", empty_one),
    ("kill -9 of a majority", kill_majority),
    ("kill -9 of all servers", kill_all),
    ("SIGSTOP of a server", stop_server),
    ("SIGSTOP of a client past its TTL", stop_client),
    ("kill -9 of a client", kill_client),
    ("a group cut off from one server", cut_one),
    ("a group cut off from all servers", cut_group),
    ("each group sees another majority", cut_bridge),
    ("requests lost one way", lose_requests),
    ("replies lost one way", lose_replies),
    ("a slow server", slow_one),
    ("connections cut", cut_connections),
];

/// Lets clients work under faults for so long; what was violated meanwhile.
pub(crate) fn run(rig: &mut Rig, duration: Duration) -> Vec<String> {
    let mut violations = Vec::new();
    for _ in 0..rig.plan.clients {
        if let Err(error) = rig.start_worker(None) {
            return vec![error];
        }
    }
    let until = Instant::now() + duration;
    let began = Instant::now();
    // Every fault once in an order drawn, then again in another.
    let mut order: Vec<usize> = Vec::new();
    while Instant::now() < until {
        if order.is_empty() {
            order = (0..FAULTS.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, rig.draw.below(at as u64 + 1) as usize);
            }
        }
        let Some(index) = order.pop() else { continue };
        let (name, inflict) = FAULTS[index];
        rig.count(name);
        let result = inflict(rig);
        rig.heal_links();
        if let Err(error) = result {
            violations.push(format!("{name}: {error}"));
            return violations;
        }
        let healed_at = now_ns();
        let began_waiting = Instant::now();
        for resource in rig.wait_all_taken(healed_at, HEALED_WITHIN) {
            violations.push(format!(
                "I7: {resource} was not taken within {HEALED_WITHIN:?} after {name}"
            ));
        }
        println!(
            "{:>5.1} s  {name}: over; every lock taken again after {} ms",
            began.elapsed().as_secs_f32(),
            began_waiting.elapsed().as_millis()
        );
    }
    violations
}

fn for_a_while(rig: &mut Rig, low_ms: u64, high_ms: u64) {
    sleep(Duration::from_millis(rig.draw.between(low_ms, high_ms)));
}

fn any_server(rig: &mut Rig) -> usize {
    let count = rig.node_count() as u64;
    rig.draw.below(count) as usize
}

fn kill_and_restart(rig: &mut Rig, indices: &[usize], empty: bool) -> Result<(), String> {
    for index in indices {
        rig.crash(*index);
    }
    for_a_while(rig, 50, 900);
    for index in indices {
        rig.start_again(*index, empty)?;
    }
    Ok(())
}

fn kill_one(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    kill_and_restart(rig, &[one], false)
}

fn empty_one(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    kill_and_restart(rig, &[one], true)
}

fn kill_majority(rig: &mut Rig) -> Result<(), String> {
    let count = rig.node_count();
    let first = any_server(rig);
    let majority: Vec<_> = (0..count / 2 + 1).map(|at| (first + at) % count).collect();
    kill_and_restart(rig, &majority, false)
}

fn kill_all(rig: &mut Rig) -> Result<(), String> {
    let all: Vec<_> = (0..rig.node_count()).collect();
    kill_and_restart(rig, &all, false)
}

fn stop_server(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    let pid = rig.server(one).pid();
    signal(pid, "STOP");
    for_a_while(rig, 300, 3000);
    signal(pid, "CONT");
    Ok(())
}

fn stop_client(rig: &mut Rig) -> Result<(), String> {
    let Some(client) = rig.any_worker() else { return Ok(()) };
    rig.signal_worker(client, "STOP");
    let ttl_ms = rig.plan.ttl_ms;
    for_a_while(rig, ttl_ms, ttl_ms * 2);
    rig.signal_worker(client, "CONT");
    Ok(())
}

fn kill_client(rig: &mut Rig) -> Result<(), String> {
    if let Some(client) = rig.any_worker() {
        rig.kill_worker(client);
    }
    rig.start_worker(None).map(|_| ())
}

fn cut_one(rig: &mut Rig) -> Result<(), String> {
    let (group, one) = (rig.draw.below(GROUPS as u64) as usize, any_server(rig));
    rig.link(group, one).hold();
    for_a_while(rig, 300, 2500);
    Ok(())
}

fn cut_group(rig: &mut Rig) -> Result<(), String> {
    let group = rig.draw.below(GROUPS as u64) as usize;
    for server in 0..rig.node_count() {
        rig.link(group, server).hold();
    }
    for_a_while(rig, 300, 2500);
    // Some of what was held up is lost for good.
    for server in 0..rig.node_count() {
        if rig.draw.below(2) == 0 {
            rig.link(group, server).cut();
        }
    }
    Ok(())
}

fn cut_bridge(rig: &mut Rig) -> Result<(), String> {
    let first = any_server(rig);
    for group in 0..GROUPS {
        rig.link(group, (first + group) % rig.node_count()).hold();
    }
    for_a_while(rig, 300, 2500);
    Ok(())
}

fn lose_requests(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    for link in rig.links_of(one) {
        link.hold_requests.store(true, SeqCst);
    }
    for_a_while(rig, 300, 2500);
    Ok(())
}

fn lose_replies(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    for link in rig.links_of(one) {
        link.hold_replies.store(true, SeqCst);
    }
    for_a_while(rig, 300, 2500);
    if rig.draw.below(2) == 0 {
        for link in rig.links_of(one) {
            link.cut();
        }
    }
    Ok(())
}

fn slow_one(rig: &mut Rig) -> Result<(), String> {
    let (one, delay_ms) = (any_server(rig), rig.draw.between(20, 400));
    for link in rig.links_of(one) {
        link.delay_ms.store(delay_ms, SeqCst);
    }
    for_a_while(rig, 500, 2500);
    Ok(())
}

fn cut_connections(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    for link in rig.links_of(one) {
        link.cut();
    }
    for_a_while(rig, 50, 500);
    Ok(())
}
