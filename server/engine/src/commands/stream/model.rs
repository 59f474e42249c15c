//! Groups against a plain model: a list of entries, and who waits for which.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::testing::Bench;

const CONSUMERS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    Add,
    Delete(u64),
    Read { consumer: usize, count: u64, acknowledges: bool },
    Again { consumer: usize, after: u64 },
    Acknowledge(u64),
    Claim { consumer: usize, idle_ms: i64, id: u64, force: bool, just_id: bool },
    AutoClaim { consumer: usize, idle_ms: i64, from: u64, count: usize },
    DeleteConsumer(usize),
    SetId(u64),
    Pass(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 1u64..25;
    let consumer = || 0..CONSUMERS.len();
    prop_oneof![
        5 => Just(Op::Add),
        1 => id().prop_map(Op::Delete),
        5 => (consumer(), 1u64..4, prop::bool::weighted(0.8)).prop_map(
            |(consumer, count, acknowledges)| Op::Read { consumer, count, acknowledges }),
        2 => (consumer(), 0u64..25).prop_map(|(consumer, after)| Op::Again { consumer, after }),
        2 => id().prop_map(Op::Acknowledge),
        3 => (consumer(), 0i64..20, id(), any::<bool>(), any::<bool>()).prop_map(
            |(consumer, idle_ms, id, force, just_id)|
                Op::Claim { consumer, idle_ms, id, force, just_id }),
        2 => (consumer(), 0i64..20, id(), 1usize..4).prop_map(
            |(consumer, idle_ms, from, count)| Op::AutoClaim { consumer, idle_ms, from, count }),
        1 => consumer().prop_map(Op::DeleteConsumer),
        1 => (0u64..25).prop_map(Op::SetId),
        2 => (1i64..15).prop_map(Op::Pass),
    ]
}

/// What one entry waits for.
#[derive(Debug, Clone, PartialEq)]
struct Waits {
    consumer: usize,
    since: i64,
    deliveries: u64,
}

#[derive(Debug, Default)]
struct Model {
    standing: Vec<u64>,
    added: u64,
    last_read: u64,
    pending: BTreeMap<u64, Waits>,
    now: i64,
}

impl Model {
    fn list(ids: &[u64]) -> String {
        let entries = ids.iter().map(|id| format!("[\"{id}-0\" [\"f\" \"{id}\"]]"));
        entries.collect::<Vec<_>>().join(" ")
    }

    fn ids(ids: &[u64]) -> String {
        ids.iter().map(|id| format!("\"{id}-0\"")).collect::<Vec<_>>().join(" ")
    }

    /// Whether an entry may be claimed; its pending mark goes if the entry has gone.
    fn claim(
        &mut self,
        id: u64,
        consumer: usize,
        idle_ms: i64,
        (force, just_id): (bool, bool),
    ) -> bool {
        if !self.standing.contains(&id) {
            self.pending.remove(&id);
            return false;
        }
        let before = match self.pending.get(&id) {
            Some(waits) if idle_ms > 0 && self.now - waits.since < idle_ms => return false,
            Some(waits) => waits.deliveries,
            None if force => 1,
            None => return false,
        };
        let deliveries = before + u64::from(!just_id);
        self.pending.insert(id, Waits { consumer, since: self.now, deliveries });
        true
    }

    /// The line of a command, and the reply it must get.
    fn apply(&mut self, op: &Op) -> Option<(String, String)> {
        Some(match *op {
            Op::Add => {
                self.added += 1;
                self.standing.push(self.added);
                let id = self.added;
                (format!("xadd s {id} f {id}"), format!("\"{id}-0\""))
            }
            Op::Delete(id) => {
                let before = self.standing.len();
                self.standing.retain(|other| *other != id);
                (format!("xdel s {id}"), (before - self.standing.len()).to_string())
            }
            Op::Read { consumer, count, acknowledges } => {
                let new = self.standing.iter().filter(|id| **id > self.last_read);
                let new: Vec<u64> = new.take(count as usize).copied().collect();
                self.last_read = new.last().copied().unwrap_or(self.last_read);
                for id in new.iter().filter(|_| acknowledges) {
                    let waits = Waits { consumer, since: self.now, deliveries: 1 };
                    self.pending.insert(*id, waits);
                }
                let (name, no) = (CONSUMERS[consumer], if acknowledges { "" } else { " noack" });
                let reply = match new.is_empty() {
                    true => "nil".to_owned(),
                    false => format!("{{\"s\": [{}]}}", Self::list(&new)),
                };
                (format!("xreadgroup group g {name} count {count}{no} streams s >"), reply)
            }
            Op::Again { consumer, after } => {
                let mut told = Vec::new();
                for (id, waits) in &mut self.pending {
                    if waits.consumer != consumer || *id <= after {
                        continue;
                    }
                    if self.standing.contains(id) {
                        (waits.since, waits.deliveries) = (self.now, waits.deliveries + 1);
                        told.push(Self::list(&[*id]));
                    } else {
                        told.push(format!("[\"{id}-0\" nil]"));
                    }
                }
                let line = format!("xreadgroup group g {} streams s {after}", CONSUMERS[consumer]);
                (line, format!("{{\"s\": [{}]}}", told.join(" ")))
            }
            Op::Acknowledge(id) => {
                let waited = self.pending.remove(&id).is_some();
                (format!("xack s g {id}"), u64::from(waited).to_string())
            }
            Op::Claim { consumer, idle_ms, id, force, just_id } => {
                let taken = self.claim(id, consumer, idle_ms, (force, just_id));
                let taken: Vec<u64> = taken.then_some(id).into_iter().collect();
                let told = if just_id { Self::ids(&taken) } else { Self::list(&taken) };
                let mut line = format!("xclaim s g {} {idle_ms} {id}", CONSUMERS[consumer]);
                line.push_str(if force { " force" } else { "" });
                line.push_str(if just_id { " justid" } else { "" });
                (line, format!("[{told}]"))
            }
            Op::AutoClaim { consumer, idle_ms, from, count } => {
                let waiting: Vec<u64> = self.pending.range(from..).map(|(id, _)| *id).collect();
                let (mut taken, mut deleted, mut left) = (Vec::new(), Vec::new(), count);
                let mut cursor = 0;
                for (looks, id) in waiting.into_iter().enumerate() {
                    if left == 0 || looks == 10 * count {
                        cursor = id;
                        break;
                    }
                    if !self.standing.contains(&id) {
                        self.pending.remove(&id);
                        deleted.push(id);
                        left -= 1;
                    } else if self.claim(id, consumer, idle_ms, (false, false)) {
                        taken.push(id);
                        left -= 1;
                    }
                }
                let cursor = format!("\"{cursor}-0\"");
                (
                    format!(
                        "xautoclaim s g {} {idle_ms} {from} count {count}",
                        CONSUMERS[consumer]
                    ),
                    format!("[{cursor} [{}] [{}]]", Self::list(&taken), Self::ids(&deleted)),
                )
            }
            Op::DeleteConsumer(consumer) => {
                let before = self.pending.len();
                self.pending.retain(|_, waits| waits.consumer != consumer);
                let line = format!("xgroup delconsumer s g {}", CONSUMERS[consumer]);
                (line, (before - self.pending.len()).to_string())
            }
            Op::SetId(id) => {
                self.last_read = id;
                (format!("xgroup setid s g {id}"), "OK".to_owned())
            }
            Op::Pass(_) => return None,
        })
    }

    /// What XPENDING tells of all that waits.
    fn pending(&self) -> String {
        let told = self.pending.iter().map(|(id, waits)| {
            let (name, idle_ms) = (CONSUMERS[waits.consumer], self.now - waits.since);
            format!("[\"{id}-0\" \"{name}\" {idle_ms} {}]", waits.deliveries)
        });
        format!("[{}]", told.collect::<Vec<_>>().join(" "))
    }
}

proptest! {
    #[test]
    fn groups_are_as_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut bench = Bench::new();
        bench.engine.keyspace().limits().set("stream-node-max-entries", 3);
        bench.line("xgroup create s g 0 mkstream");
        let mut model = Model::default();
        for op in ops {
            if let Op::Pass(ms) = op {
                bench.pass_ms(ms);
                model.now += ms;
                continue;
            }
            if let Some((line, reply)) = model.apply(&op) {
                prop_assert_eq!(bench.show(&line), reply, "{}", line);
            }
            prop_assert_eq!(bench.show("xpending s g - + 100"), model.pending());
        }
    }
}
