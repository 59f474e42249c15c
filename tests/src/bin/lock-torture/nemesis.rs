//! Faults, one after the other, each healed and followed by a look whether locks can be had again.

use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clock::now_ns;
use crate::host::Servers;
use crate::rig::{GROUPS, Rig};

/// After a fault is over, each lock must be taken by somebody within this.
const HEALED_WITHIN: Duration = Duration::from_secs(10);
const HOUR_SECONDS: i64 = 3600;

/// Something bad that can happen.
struct Fault {
    name: &'static str,
    needs: Needs,
    inflict: fn(&mut Rig) -> Result<(), String>,
}

/// Where a fault can be inflicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Clients that reach each server over a link; a cluster's clients go to its leader by themselves.
    Links,
    /// Servers that may come back without what they had; a cluster's members must not.
    Independence,
    /// Libraries preloaded into servers and clients.
    Preload,
    /// The same, and a journal.
    Journal,
}

const fn fault(
    name: &'static str,
    needs: Needs,
    inflict: fn(&mut Rig) -> Result<(), String>,
) -> Fault {
    Fault { name, needs, inflict }
}

const FAULTS: &[Fault] = &[
    fault("kill -9 of a server", Needs::Nothing, kill_one),
    fault("a server restarted empty", Needs::Independence, empty_one),
    fault("kill -9 of a majority", Needs::Nothing, kill_majority),
    fault("kill -9 of all servers", Needs::Nothing, kill_all),
    fault("SIGSTOP of a server", Needs::Nothing, stop_server),
    fault("SIGSTOP of a client past its TTL", Needs::Nothing, stop_client),
    fault("kill -9 of a client", Needs::Nothing, kill_client),
    fault("a group cut off from one server", Needs::Links, cut_one),
    fault("a group cut off from all servers", Needs::Links, cut_group),
    fault("each group sees another majority", Needs::Links, cut_bridge),
    fault("requests lost one way", Needs::Links, lose_requests),
    fault("replies lost one way", Needs::Links, lose_replies),
    fault("a blackholed server", Needs::Links, blackhole_one),
    fault("a slow server", Needs::Links, slow_one),
    fault("connections cut", Needs::Links, cut_connections),
    fault("wall clock of a server 1 h off", Needs::Preload, set_clock_of_server),
    fault("wall clock of half the clients 1 h off", Needs::Preload, set_clock_of_clients),
    fault("kill -9, wall clock 1 h off at the restart", Needs::Preload, restart_at_another_time),
    fault("fsync stalls of 5 s", Needs::Preload, stall_syncs),
    fault("power cut: unsynced writes lost, tails torn", Needs::Journal, cut_power),
];

impl Fault {
    fn is_possible(&self, rig: &Rig) -> bool {
        let is_cluster = rig.plan.servers == Servers::Raft;
        let is_wanted = rig.plan.only.as_ref().is_none_or(|only| self.name.contains(only.as_str()));
        is_wanted
            && match self.needs {
                Needs::Nothing => true,
                Needs::Links | Needs::Independence => !is_cluster,
                Needs::Preload => rig.can_disturb(),
                Needs::Journal => {
                    rig.can_disturb() && rig.hosts().iter().any(|host| host.keeping.is_journal())
                }
            }
    }
}

/// Lets clients work under faults for so long; what was violated meanwhile.
pub(crate) fn run(rig: &mut Rig, duration: Duration) -> Vec<String> {
    let mut violations = Vec::new();
    for _ in 0..rig.plan.clients {
        if let Err(error) = rig.start_worker(None) {
            return vec![error];
        }
    }
    let possible: Vec<&Fault> = FAULTS.iter().filter(|fault| fault.is_possible(rig)).collect();
    if possible.is_empty() {
        return vec!["there is no such fault for these servers".to_owned()];
    }
    let until = Instant::now() + duration;
    let began = Instant::now();
    // Every fault once in an order drawn, then again in another.
    let mut order: Vec<usize> = Vec::new();
    while Instant::now() < until {
        if order.is_empty() {
            order = (0..possible.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, rig.draw.below(at as u64 + 1) as usize);
            }
        }
        let Some(index) = order.pop() else { continue };
        let &Fault { name, inflict, .. } = possible[index];
        rig.count(name);
        let result = inflict(rig);
        rig.heal();
        if let Err(error) = result {
            violations.push(format!("{name}: {error}"));
            return violations;
        }
        let healed_at = now_ns();
        let began_waiting = Instant::now();
        let not_taken = rig.wait_all_taken(healed_at, HEALED_WITHIN);
        for resource in not_taken {
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

fn kill_and_restart(rig: &mut Rig, indices: &[usize]) -> Result<(), String> {
    for index in indices {
        rig.host(*index).crash();
    }
    for_a_while(rig, 50, 900);
    for index in indices {
        rig.host(*index).start_again()?;
    }
    Ok(())
}

fn kill_one(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    kill_and_restart(rig, &[one])
}

fn empty_one(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    rig.lose_disk(one);
    for_a_while(rig, 50, 900);
    rig.host(one).start_again()
}

fn kill_majority(rig: &mut Rig) -> Result<(), String> {
    let count = rig.node_count();
    let first = any_server(rig);
    let majority: Vec<_> = (0..count / 2 + 1).map(|at| (first + at) % count).collect();
    kill_and_restart(rig, &majority)
}

fn kill_all(rig: &mut Rig) -> Result<(), String> {
    let all: Vec<_> = (0..rig.node_count()).collect();
    kill_and_restart(rig, &all)
}

fn stop_server(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    rig.host(one).signal("STOP");
    for_a_while(rig, 300, 3000);
    rig.host(one).signal("CONT");
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

fn blackhole_one(rig: &mut Rig) -> Result<(), String> {
    let one = any_server(rig);
    for link in rig.links_of(one) {
        link.hold();
    }
    for_a_while(rig, 300, 2500);
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

/// An hour ahead or behind.
fn any_shift(rig: &mut Rig) -> i64 {
    match rig.draw.below(2) {
        0 => HOUR_SECONDS,
        _ => -HOUR_SECONDS,
    }
}

fn set_clock_of_server(rig: &mut Rig) -> Result<(), String> {
    let (one, shift) = (any_server(rig), any_shift(rig));
    // How far wall time, as the server sees it, is ahead of ours.
    let wall_off_ms = |rig: &Rig| -> Result<i64, String> {
        let theirs_ms = rig.hosts()[one].info("server", "holdfast_wall_time_ms")?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| now.as_millis() as i64);
        Ok(theirs_ms - now_ms)
    };
    // A node of a cluster that was started an hour ahead of the machine has stayed there.
    let before_ms = wall_off_ms(rig)?;
    rig.host(one).set_wall_clock(shift);
    for_a_while(rig, 600, 2500);
    // That nothing happens shows something only if the clock was set.
    let moved_ms = wall_off_ms(rig)? - before_ms;
    rig.host(one).set_wall_clock(0);
    for_a_while(rig, 300, 1200);
    match (moved_ms - shift * 1000).abs() < 60_000 {
        true => Ok(()),
        false => Err(format!("set {shift} s off, it says it moved by {moved_ms} ms")),
    }
}

fn set_clock_of_clients(rig: &mut Rig) -> Result<(), String> {
    let (group, shift) = (rig.draw.below(GROUPS as u64) as usize, any_shift(rig));
    rig.set_wall_clock_of_clients(group, shift);
    for_a_while(rig, 600, 2500);
    rig.set_wall_clock_of_clients(group, 0);
    for_a_while(rig, 300, 1200);
    Ok(())
}

/// Of any number of servers, all of them perhaps; their clocks are put right while they run.
fn restart_at_another_time(rig: &mut Rig) -> Result<(), String> {
    let (count, shift) = (rig.node_count(), any_shift(rig));
    let places = any_places(rig);
    for at in places.clone() {
        rig.host(at % count).crash();
    }
    for at in places.clone() {
        rig.host(at % count).set_wall_clock(shift);
        rig.host(at % count).start_again()?;
    }
    for_a_while(rig, 600, 2500);
    for at in places {
        rig.host(at % count).set_wall_clock(0);
    }
    for_a_while(rig, 300, 1200);
    Ok(())
}

/// Any number of servers, by numbers that count on beyond the last.
fn any_places(rig: &mut Rig) -> std::ops::Range<usize> {
    let first = any_server(rig);
    first..first + 1 + any_server(rig)
}

/// On any number of servers, all of them perhaps.
fn stall_syncs(rig: &mut Rig) -> Result<(), String> {
    const STALL_MS: u64 = 5_000;
    let (count, places) = (rig.node_count(), any_places(rig));
    for at in places.clone() {
        rig.host(at % count).dawdle(STALL_MS);
    }
    for_a_while(rig, STALL_MS, STALL_MS + 500);
    for at in places {
        rig.host(at % count).dawdle(0);
    }
    Ok(())
}

/// Of one server with a journal, or of all of them.
fn cut_power(rig: &mut Rig) -> Result<(), String> {
    let journaled: Vec<usize> =
        (0..rig.node_count()).filter(|at| rig.hosts()[*at].keeping.is_journal()).collect();
    let one = journaled[rig.draw.below(journaled.len() as u64) as usize];
    let places = if rig.draw.below(2) == 0 { vec![one] } else { journaled };
    for at in places {
        let (host, draw) = rig.host_and_draw(at);
        let lost = host.cut_power(draw)?;
        println!("         server {at} ({:?}) lost {lost} bytes", host.keeping);
    }
    Ok(())
}
