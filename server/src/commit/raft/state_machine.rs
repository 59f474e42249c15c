//! Applying entries to the engine, in log order, on every node alike.
//!
//! What may differ between replicas never decides anything here: time, seed and the limit on
//! scripts come with the entry, the sequence of proposals is counted, and the host tells nothing.
//! A command that only reads is skipped where nobody waits for its reply.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use holdfast_engine::command::{Args, Command, Handler};
use holdfast_engine::context::{Context, Touch};
use holdfast_engine::effects::Effects;
use holdfast_engine::engine::{Step, table};
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::{CommandError, Reply};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::applied::Applied;
use super::batch::{Decoder, Header, Item, Seen, Tag};
use super::once::{self, Once};
use super::outcome::Outcome;
use super::shared::Shared;
use super::snapshot::{Builder, SnapshotFile, Store};
use super::surroundings::{Replica, Surroundings};
use super::types::{LogId, SnapshotMeta, StoredMembership, Types};

/// Keys removed after an entry that moved time on, so that few expired ones pile up.
const EXPIRE_PER_ENTRY: usize = 64;

/// The replicated state: the node's engine and the position in the log.
pub struct StateMachine {
    node: Arc<dyn Surroundings>,
    applied: Arc<Applied>,
    snapshots: Arc<Store>,
    once: Once,
    shared: Shared,
    effects: Effects,
}

impl std::fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateMachine").finish_non_exhaustive()
    }
}

/// What the proposals of one entry share while they are applied.
struct Run<'a> {
    node: &'a dyn Surroundings,
    header: Header,
    now: UnixMillis,
    /// Whether somebody waits for the outcomes.
    answers: bool,
    /// When the last proposal ended: the next begins then.
    ended_us: u64,
    /// What the leader saw when it made the proposal that runs.
    seen: Seen,
    /// The rules that bound what its scripts may call.
    rules: Option<&'a [u8]>,
    effects: &'a mut Effects,
}

impl StateMachine {
    /// A state machine over the node's engine, which is as `applied` says.
    #[must_use]
    pub fn new(node: Arc<dyn Surroundings>, applied: Arc<Applied>, snapshots: Arc<Store>) -> Self {
        let effects = Effects::new(node.wanted_events());
        let (once, shared) = (Once::default(), Shared::default());
        Self { node, applied, snapshots, once, shared, effects }
    }

    /// Applies one entry's proposals; outcomes only if somebody waits for them.
    fn apply_batch(&mut self, bytes: &[u8], id: LogId, answers: bool) -> io::Result<Vec<Outcome>> {
        let (header, mut decoder) = Decoder::new(bytes)?;
        let mut outcomes = Vec::new();
        let (mut sequence, mut next_member) = self.applied.numbers();
        let before = self.applied.now();
        let now = before.max(header.stamp);
        self.effects.want(self.node.wanted_events());
        let ended_us = self.node.monotonic_us();
        let effects = &mut self.effects;
        let seen = Seen::default();
        let (node, rules) = (&*self.node, None);
        let mut run = Run { node, header, now, answers, ended_us, seen, rules, effects };
        while let Some(item) = decoder.next()? {
            sequence += 1;
            (run.seen, run.rules) = (decoder.seen, decoder.rules);
            let context = run.context(decoder.db, decoder.touch, sequence);
            let outcome =
                match item {
                    Item::Command => run.command(&decoder.args, context),
                    Item::Once((client, number)) => {
                        Some(run.once(&mut self.once, (client, number), &decoder.args, context))
                    }
                    Item::Transaction { steps, watches } => {
                        Some(run.transaction(&steps, &watches, context))
                    }
                    Item::ScriptLoad(body) => {
                        let loaded = run.node.engine().load_script(body);
                        Some(reply(loaded.map_or_else(Reply::error, |sha| {
                            Reply::bulk(sha.to_string().as_bytes())
                        })))
                    }
                    Item::ScriptFlush => {
                        run.node.engine().scripts().flush();
                        Some(reply(Reply::Ok))
                    }
                    Item::Settings => {
                        let changed = run.node.change_settings(&decoder.args);
                        if changed.is_ok() {
                            self.shared.note_settings(&decoder.args);
                        }
                        Some(reply(changed.map_or_else(Reply::error, |()| Reply::Ok)))
                    }
                    Item::User => {
                        let changed = run.node.change_user(&decoder.args);
                        if changed.is_ok() {
                            self.shared.note_user(&decoder.args);
                        }
                        Some(reply(changed.map_or_else(Reply::error, |()| Reply::Ok)))
                    }
                    Item::NewMember => {
                        // Numbers begin with 1, which the first node took.
                        next_member = next_member.max(2) + 1;
                        Some(reply(Reply::Integer(next_member as i64 - 1)))
                    }
                };
            if answers {
                outcomes.push(outcome.unwrap_or_else(|| reply(Reply::Nil)));
            }
        }
        // Shown only now: whoever reads by this position sees the whole entry.
        self.applied.move_on(self.node.monotonic_us(), |place| {
            place.now_ms = now.0;
            place.sequence = sequence;
            place.next_member = next_member;
            place.last = Some(id);
        });
        if now > before {
            let keyspace = self.node.engine().keyspace();
            if keyspace.has_due(now) {
                keyspace.expire_due(now, EXPIRE_PER_ENTRY, &mut self.effects);
            }
        }
        self.node.deliver(&mut self.effects);
        Ok(outcomes)
    }
}

fn reply(reply: Reply) -> Outcome {
    Outcome::Reply { reply, hits: 0, misses: 0, took_us: 0 }
}

/// The engine's row that runs these arguments.
fn row_of(args: Args<'_>) -> Option<&'static Command> {
    let row = table().find(args[0])?;
    let row = match row.handler {
        Handler::Container => table().find_sub(row, args.get(1)?)?,
        _ => row,
    };
    row.accepts(args.len()).then_some(row)
}

impl<'a> Run<'a> {
    fn context(&self, db: DbIndex, touch: Touch, sequence: u64) -> Context {
        let mut seed = self.header.seed ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Context { db, now: self.now, seed: seed ^ (seed >> 27), sequence, touch }
    }

    fn host(&self, counts_receivers: bool) -> Replica<'a> {
        let instruction_limit = self.header.instruction_limit;
        let (node, seen, rules) = (self.node, self.seen, self.rules);
        Replica { node, instruction_limit, counts_receivers, seen, rules }
    }

    /// Microseconds since a proposal began; only asked where somebody is told.
    fn took_since(&mut self, began_us: u64) -> u64 {
        if self.answers {
            self.ended_us = self.node.monotonic_us();
        }
        self.ended_us.saturating_sub(began_us)
    }

    fn command(&mut self, args: Args<'_>, context: Context) -> Option<Outcome> {
        let Some(row) = row_of(args) else {
            // Of a newer version; every replica of this version skips it alike.
            return Some(reply(Reply::error(CommandError::new(format!(
                "ERR this node does not know the command '{}'",
                String::from_utf8_lossy(args[0])
            )))));
        };
        if matches!(row.handler, Handler::Read(_)) && !self.answers {
            return None;
        }
        if usize::from(context.db.0) >= usize::from(self.node.engine().keyspace().databases()) {
            return Some(reply(Reply::error(CommandError::DB_OUT_OF_RANGE)));
        }
        let host = self.host(!matches!(row.handler, Handler::Script(_)));
        let began_us = self.ended_us;
        let outcome = self.node.engine().run(row, args, context, &host, self.effects);
        let took_us = self.took_since(began_us);
        if let Some(wait) = self.effects.wait.take() {
            return Some(Outcome::Wait(wait));
        }
        let (hits, misses) = (outcome.hits, outcome.misses);
        Some(Outcome::Reply { reply: outcome.reply, hits, misses, took_us })
    }

    /// Runs a command unless it ran before.
    fn once(
        &mut self,
        once: &mut Once,
        (client, number): Tag<'_>,
        args: Args<'_>,
        context: Context,
    ) -> Outcome {
        if let once::Seen::Before(told) = once.look(client, number, context.sequence) {
            return reply(told);
        }
        let answers = std::mem::replace(&mut self.answers, true);
        let outcome = self.command(args, context);
        self.answers = answers;
        let outcome = match outcome {
            Some(done @ Outcome::Reply { .. }) => done,
            _ => reply(Reply::Nil),
        };
        if let Outcome::Reply { reply, .. } = &outcome {
            once.note(client, number, reply, context.sequence);
        }
        outcome
    }

    fn transaction(
        &mut self,
        steps: &[(DbIndex, Vec<&[u8]>)],
        watches: &[holdfast_engine::engine::Watch],
        context: Context,
    ) -> Outcome {
        let rows: Option<Vec<Step<'_>>> = steps
            .iter()
            .map(|(db, args)| Some(Step { row: row_of(args)?, args, db: *db }))
            .collect();
        let Some(rows) = rows else {
            return reply(Reply::error(CommandError::known(
                "ERR this node does not know a command of the transaction",
            )));
        };
        let host = self.host(false);
        let began_us = self.ended_us;
        let done = self.node.engine().transaction(&rows, watches, context, &host, self.effects);
        self.effects.wait = None;
        let took_us = self.took_since(began_us);
        match done {
            Ok(outcomes) => Outcome::Transaction(
                outcomes
                    .map(|all| (all.into_iter().map(|outcome| outcome.reply).collect(), took_us)),
            ),
            Err(error) => reply(Reply::error(error)),
        }
    }
}

impl<C: Types> RaftStateMachine<C> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.applied.position();
        Ok((position.last, position.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<C>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id;
            let outcomes = match entry.payload {
                EntryPayload::Normal(batch) => {
                    self.apply_batch(&batch.0, id, responder.is_some())?
                }
                EntryPayload::Blank => {
                    self.applied.move_on(self.node.monotonic_us(), |place| place.last = Some(id));
                    Vec::new()
                }
                EntryPayload::Membership(membership) => {
                    self.applied.move_on(self.node.monotonic_us(), |place| {
                        place.last = Some(id);
                        place.membership = StoredMembership::new(Some(id), membership);
                    });
                    Vec::new()
                }
            };
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Called between entries: engine and position belong together.
        let position = self.applied.position();
        self.snapshots.capture(Arc::clone(&self.node), position, (&self.once, &self.shared))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let (position, once, shared) =
            self.snapshots.install(meta, &snapshot, self.node.engine())?;
        self.once = once;
        self.shared = shared;
        self.shared.put_in_force(&*self.node);
        self.applied.move_on(self.node.monotonic_us(), |place| *place = position);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<
        Option<
            openraft::storage::Snapshot<
                super::types::Leader,
                u64,
                super::types::Member,
                SnapshotFile,
            >,
        >,
    > {
        self.snapshots.current()
    }
}
