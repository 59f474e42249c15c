//! Faults that are staged rather than drawn: each shows what it is there for in every run.

use std::time::Duration;

use holdfast_tests::client::{Client, Received};

use crate::Mutant;
use crate::history::What;
use crate::rig::Rig;
use crate::store::UNFENCED;

const SOON: Duration = Duration::from_secs(15);

/// A client is stopped between reading and writing until another has had the lock: the register that
/// checks tokens must lose nothing, and the one that does not must lose a write, or this shows nothing.
pub(crate) fn paused_client(rig: &mut Rig, mutant: Option<Mutant>) -> Vec<String> {
    let mut violations = Vec::new();
    for resource in ["fenced:paused", "control:paused"] {
        if let Err(error) = pause_and_overtake(rig, resource) {
            violations.push(format!("paused client: {error}"));
            continue;
        }
        let registers = rig.registers();
        let Some(register) = registers.get(resource) else {
            violations.push(format!("paused client: nobody wrote {resource}"));
            continue;
        };
        let lost = register.acknowledged.saturating_sub(register.value);
        println!(
            "a client paused past its TTL, {resource}: {} acknowledged, {lost} lost, {} refused",
            register.acknowledged, register.refused
        );
        if resource.starts_with(UNFENCED) && lost == 0 {
            violations.push("the control lost nothing: the pause did not work".to_owned());
        }
        if !resource.starts_with(UNFENCED) && mutant.is_none() && register.refused == 0 {
            violations.push("no late write came to the fenced register".to_owned());
        }
    }
    rig.count("staged: client paused past its TTL");
    violations
}

fn pause_and_overtake(rig: &mut Rig, resource: &str) -> Result<(), String> {
    let has = |client: u64| {
        move |event: &crate::history::Event| {
            event.client == client && matches!(event.what, What::Holds { .. })
        }
    };
    // It thinks for long enough to be stopped meanwhile, and for less than the lock lasts.
    let slow = rig.start_worker(Some((resource, rig.plan.ttl_ms / 2)))?;
    if !rig.wait_for(SOON, has(slow)) {
        return Err(format!("{resource} was never taken"));
    }
    std::thread::sleep(Duration::from_millis(rig.plan.ttl_ms / 8));
    rig.signal_worker(slow, "STOP");
    let quick = rig.start_worker(Some((resource, 0)))?;
    let written =
        rig.wait_for(SOON, move |event| event.client == quick && matches!(event.what, What::Wrote));
    rig.signal_worker(slow, "CONT");
    if !written {
        return Err(format!("nobody could follow the stopped holder of {resource}"));
    }
    let ended = rig.wait_for(SOON, move |event| {
        event.client == slow && matches!(event.what, What::Wrote | What::Refused)
    });
    rig.kill_worker(slow);
    rig.kill_worker(quick);
    if ended { Ok(()) } else { Err(format!("the late holder of {resource} did not wake up")) }
}

/// All servers crash and forget a lock that somebody holds; the next client comes at once. With the
/// quarantine it has to wait; the mutant without one lets both hold it.
pub(crate) fn forgetful_servers(rig: &mut Rig) -> Vec<String> {
    rig.count("staged: all servers forget a held lock");
    under_a_holder(rig, "fenced:forgotten", |rig| {
        (0..rig.node_count()).for_each(|index| rig.host(index).crash());
        start_all_again(rig)
    })
}

/// All servers lose their disks while somebody holds a lock, and come back empty: their operator has them
/// wait, and begin with greater tokens, which the mutant leaves out; then they give tokens a second time.
pub(crate) fn emptied_servers(rig: &mut Rig) -> Vec<String> {
    rig.count("staged: all servers restarted empty under a holder");
    // So that counters which begin anew are behind.
    for host in rig.hosts() {
        let Ok(mut client) = host.client() else { continue };
        for _ in 0..20 {
            client.line("LOCK.ACQUIRE counted owner 60000");
            client.line("LOCK.RELEASE counted owner");
        }
    }
    under_a_holder(rig, "fenced:emptied", |rig| {
        (0..rig.node_count()).for_each(|index| rig.lose_disk(index));
        start_all_again(rig)
    })
}

/// All servers crash while somebody holds a lock, and come back when the wall clock has been set an
/// hour ahead: what they have in journals must not look as if its time were over.
pub(crate) fn restarted_an_hour_ahead(rig: &mut Rig) -> Vec<String> {
    rig.count("staged: all servers restarted an hour ahead under a holder");
    let violations = under_a_holder(rig, "fenced:ahead", |rig| {
        for index in 0..rig.node_count() {
            rig.host(index).crash();
            rig.host(index).set_wall_clock(3600);
        }
        start_all_again(rig)
    });
    rig.hosts().iter().for_each(|host| host.set_wall_clock(0));
    violations
}

fn start_all_again(rig: &mut Rig) -> Result<(), String> {
    (0..rig.node_count()).try_for_each(|index| rig.host(index).start_again())
}

/// Does something to the servers while one client holds a lock, and lets another follow.
fn under_a_holder(
    rig: &mut Rig,
    resource: &str,
    disturb: fn(&mut Rig) -> Result<(), String>,
) -> Vec<String> {
    let mut followed = || -> Result<bool, String> {
        let first = rig.start_worker(Some((resource, rig.plan.ttl_ms * 3 / 4)))?;
        if !rig.wait_for(SOON, move |e| e.client == first && e.token().is_some()) {
            return Err(format!("{resource} was never taken"));
        }
        disturb(rig)?;
        let second = rig.start_worker(Some((resource, 0)))?;
        Ok(rig.wait_for(SOON, move |e| e.client == second && matches!(e.what, What::Releases)))
    };
    match followed() {
        Ok(true) => Vec::new(),
        Ok(false) => vec![format!("nobody could follow the holder of {resource}")],
        Err(error) => vec![format!("{resource}: {error}")],
    }
}

/// A request whose reply was lost is sent again: it has one effect.
pub(crate) fn repeated_request(rig: &mut Rig) -> Vec<String> {
    rig.count("staged: a reply lost, the request repeated");
    match repeat(rig) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("I8: {error}")],
    }
}

fn repeat(rig: &mut Rig) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_millis(300);
    let text = |error: std::io::Error| error.to_string();
    let link = rig.link(0, 0).clone();
    let acquire = ["LOCK.ACQUIRE", "repeated", "owner", "60000"];
    let mut through = Client::connect(link.addr).map_err(text)?;
    if through.line("PING").text() != "PONG" {
        return Err("the link does not work".to_owned());
    }
    link.hold_replies.store(true, std::sync::atomic::Ordering::SeqCst);
    through.send(&acquire).map_err(text)?;
    let silent = !matches!(through.receive(PATIENCE), Received::Reply(_));
    link.heal();
    link.cut();
    if !silent {
        return Err("the reply was not lost".to_owned());
    }
    let mut again = rig.host(0).client()?;
    let info = again.line("LOCK.INFO repeated");
    let (first, second) = (again.cmd(&acquire), again.cmd(&acquire));
    if first != second {
        return Err(format!("repeated, it was granted {first:?}, then {second:?} ({info:?})"));
    }
    let other = again.cmd(&["LOCK.ACQUIRE", "repeated", "other", "60000"]);
    let released = again.cmd(&["LOCK.RELEASE", "repeated", "owner"]).int();
    let released_again = again.cmd(&["LOCK.RELEASE", "repeated", "owner"]).int();
    if (released, released_again) != (1, 0) {
        return Err(format!("released {released} and {released_again} times; {other:?}"));
    }
    Ok(())
}
