//! The verdict over a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::Mutant;
use crate::history::{Event, What};
use crate::store::{Register, UNFENCED};

/// One time that somebody had a lock, by its own clock and deadline.
#[derive(Debug, Clone)]
struct Tenure {
    client: u64,
    attempt: u64,
    asked: u64,
    from: u64,
    until: u64,
    token: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
}

impl Report {
    /// The table a human reads.
    pub(crate) fn table(&self, faults: &BTreeMap<&'static str, u64>) -> String {
        let mut text = String::from("\nfaults\n");
        for (fault, count) in faults {
            let _ = writeln!(text, "  {count:>5}  {fault}");
        }
        text.push_str("\noperations\n");
        for row in &self.rows {
            let _ = writeln!(text, "  {row}");
        }
        text
    }
}

/// Judges what the clients did and what the registers say.
pub(crate) fn judge(
    history: &[Event],
    registers: &BTreeMap<String, Register>,
    mutant: Option<Mutant>,
) -> Report {
    let mut report = Report::default();
    let resources: BTreeSet<&str> = history.iter().map(|event| event.resource.as_str()).collect();
    for resource in resources {
        let events: Vec<&Event> = history.iter().filter(|e| e.resource == resource).collect();
        let tenures = tenures_of(&events);
        report.violations.extend(overlaps(resource, &tenures));
        report.violations.extend(tokens_out_of_order(resource, &tenures));
        report.rows.push(row(resource, &events, &tenures));
    }
    for (name, register) in registers {
        let lost = register.acknowledged.saturating_sub(register.value);
        report.rows.push(format!(
            "register {name}: {} acknowledged writes, {lost} lost, {} refused for their token",
            register.acknowledged, register.refused
        ));
        if lost > 0 && !name.starts_with(UNFENCED) {
            report.violations.push(format!("I3: {name} lost {lost} acknowledged write(s)"));
        }
    }
    if mutant.is_none() && !history.iter().any(|event| matches!(event.what, What::Holds { .. })) {
        report.violations.push("nobody ever had a lock: nothing was tested".to_owned());
    }
    report
}

/// The times somebody had the lock. A holder that died had it until its deadline.
fn tenures_of(events: &[&Event]) -> Vec<Tenure> {
    let mut by_attempt: BTreeMap<(u64, u64), Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_attempt.entry((event.client, event.attempt)).or_default().push(event);
    }
    let mut tenures = Vec::new();
    for ((client, attempt), events) in by_attempt {
        let asked = events.iter().find(|e| e.what == What::Asks).map_or(0, |e| e.at);
        let mut tenure = None;
        for event in events {
            match (&event.what, &mut tenure) {
                (What::Holds { token, deadline }, _) => {
                    let (from, until, token) = (event.at, *deadline, *token);
                    tenure = Some(Tenure { client, attempt, asked, from, until, token });
                }
                (What::Extends { deadline }, Some(tenure)) => tenure.until = *deadline,
                (What::Releases, Some(tenure)) => tenure.until = tenure.until.min(event.at),
                _ => {}
            }
        }
        tenures.extend(tenure.filter(|tenure| tenure.until > tenure.from));
    }
    tenures.sort_by_key(|tenure| tenure.from);
    tenures
}

/// I1: nobody has the lock while somebody else does.
fn overlaps(resource: &str, tenures: &[Tenure]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last: Option<&Tenure> = None;
    for tenure in tenures {
        if let Some(before) = last
            && tenure.from < before.until
        {
            found.push(format!(
                "I1: {resource}: client {} (attempt {}, token {}) has it from {} on, client {} (attempt \
                 {}, token {}) until {}: {} ms together",
                tenure.client,
                tenure.attempt,
                tenure.token,
                tenure.from,
                before.client,
                before.attempt,
                before.token,
                before.until,
                (before.until.min(tenure.until) - tenure.from) / 1_000_000
            ));
        }
        if last.is_none_or(|before| tenure.until > before.until) {
            last = Some(tenure);
        }
    }
    found
}

/// I2: tokens are unique, and who asked after another was granted gets a greater one.
fn tokens_out_of_order(resource: &str, tenures: &[Tenure]) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<u64, &Tenure> = BTreeMap::new();
    for tenure in tenures {
        if let Some(other) = seen.insert(tenure.token, tenure) {
            found.push(format!(
                "I2: {resource}: token {} went to client {} and to client {}",
                tenure.token, other.client, tenure.client
            ));
        }
    }
    // The greatest token granted before each moment somebody asked.
    let mut by_grant: Vec<&Tenure> = tenures.iter().collect();
    by_grant.sort_by_key(|tenure| tenure.from);
    let mut greatest: Vec<(u64, u64)> = Vec::with_capacity(by_grant.len());
    for tenure in by_grant {
        let before = greatest.last().map_or(0, |(_, token)| *token);
        greatest.push((tenure.from, before.max(tenure.token)));
    }
    for tenure in tenures {
        let known = greatest.partition_point(|(from, _)| *from < tenure.asked);
        if known > 0 && greatest[known - 1].1 >= tenure.token {
            found.push(format!(
                "I2: {resource}: client {} asked after token {} was out, and got {}",
                tenure.client,
                greatest[known - 1].1,
                tenure.token
            ));
        }
    }
    found
}

fn row(resource: &str, events: &[&Event], tenures: &[Tenure]) -> String {
    let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut asked, mut extended, mut wrote, mut refused) = (0, 0, 0, 0);
    for event in events {
        match &event.what {
            What::Asks => asked += 1,
            What::Extends { .. } => extended += 1,
            What::Wrote => wrote += 1,
            What::Refused => refused += 1,
            What::Fails { why } => *failures.entry(why).or_default() += 1,
            What::Holds { .. } | What::Releases => {}
        }
    }
    format!(
        "lock {resource}: {asked} asked, {} held, {extended} extended, {wrote} wrote, {refused} refused, \
         failed {failures:?}",
        tenures.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &[&str]) -> Vec<Event> {
        lines.iter().map(|line| line.parse().expect("an event")).collect()
    }

    fn violations(lines: &[&str]) -> Vec<String> {
        judge(&history(lines), &BTreeMap::new(), None).violations
    }

    #[test]
    fn events_are_read_as_they_are_written() {
        for line in ["1 2 r 3 asks", "1 2 r 3 holds 4 5", "1 2 r 3 fails lost", "1 2 r 3 wrote"] {
            assert_eq!(line.parse::<Event>().expect(line).to_string(), line);
        }
        for broken in ["", "1 2 r 3", "1 2 r x asks", "1 2 r 3 holds 4", "1 2 r 3 sings"] {
            assert!(broken.parse::<Event>().is_err(), "{broken}");
        }
    }

    #[test]
    fn one_after_the_other_is_sound() {
        let found = violations(&[
            "1 1 r 10 asks",
            "1 1 r 20 holds 7 100",
            "1 1 r 50 releases",
            "2 1 r 30 asks",
            "2 1 r 60 holds 8 160",
            "3 1 r 90 asks",
            "3 1 r 170 holds 9 300",
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn two_at_once_are_found() {
        let late = ["1 1 r 10 asks", "1 1 r 20 holds 7 100", "1 1 r 90 extends 200"];
        let other = ["2 1 r 30 asks", "2 1 r 150 holds 8 260"];
        let found = violations(&[&late[..], &other[..]].concat());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("I1"), "{found:?}");
    }

    #[test]
    fn a_token_that_comes_twice_or_falls_behind_is_found() {
        let first = ["1 1 r 10 asks", "1 1 r 20 holds 7 100", "1 1 r 30 releases"];
        let twice = ["2 1 r 25 asks", "2 1 r 40 holds 7 100"];
        assert!(violations(&[&first[..], &twice[..]].concat())[0].contains("went to client"));
        let behind = ["2 1 r 35 asks", "2 1 r 40 holds 6 100"];
        assert!(violations(&[&first[..], &behind[..]].concat())[0].contains("was out, and got 6"));
    }

    #[test]
    fn a_lost_write_is_found() {
        let register = |value, acknowledged| {
            let mut store = BTreeMap::new();
            let mut register = Register::default();
            (register.value, register.acknowledged) = (value, acknowledged);
            store.insert("fenced".to_owned(), register.clone());
            store.insert("control".to_owned(), register);
            store
        };
        let events = history(&["1 1 r 20 holds 7 100"]);
        assert!(judge(&events, &register(3, 3), None).violations.is_empty());
        let found = judge(&events, &register(3, 4), None).violations;
        assert_eq!(found, ["I3: fenced lost 1 acknowledged write(s)"]);
    }
}
