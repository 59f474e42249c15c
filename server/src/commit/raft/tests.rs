//! openraft's own suite on our log store and state machine, and replicas that must agree.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_engine::CommandError;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::applied::Applied;
use super::forward::serve::Turns;
use super::forward::{Answer, Park, Request};
use super::log::LogStore;
use super::log::tests::TempDir;
use super::outcome::Refusal;
use super::snapshot::Store;
use super::state_machine::StateMachine;
use super::surroundings::Surroundings;
use super::types::Group;

/// A node without clients.
pub(crate) struct Bare {
    pub(crate) engine: Engine,
}

impl Host for Bare {}

impl Surroundings for Bare {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn wanted_events(&self) -> EventClass {
        EventClass::NONE
    }

    fn deliver(&self, effects: &mut Effects) {
        effects.notices.clear();
        effects.garbage.clear();
        effects.changes = 0;
        effects.expired_keys = 0;
    }

    fn hand_over(&self) {}

    fn monotonic_us(&self) -> u64 {
        0
    }

    fn wall_ms(&self) -> i64 {
        1
    }

    fn instruction_limit(&self) -> u64 {
        0
    }

    fn lost_leadership(&self) {}

    fn change_settings(&self, _pairs: &[&[u8]]) -> Result<(), CommandError> {
        Ok(())
    }

    fn change_user(&self, _name_and_rules: &[&[u8]]) -> Result<(), CommandError> {
        Ok(())
    }

    fn serve(self: Arc<Self>, _request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async { Answer::Refused(Refusal::NotLeader) })
    }

    fn park(self: Arc<Self>, _park: Park, _turns: Turns) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

pub(crate) fn bare() -> Arc<Bare> {
    Arc::new(Bare { engine: Engine::new(16, 1) })
}

struct Build;

impl StoreBuilder<Group, LogStore, StateMachine, TempDir> for Build {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<Group>> {
        let dir = TempDir::new();
        let log = LogStore::open(&dir.path().join("log")).expect("a log");
        let snapshots = Store::open(&dir.path().join("snapshots")).expect("snapshots");
        let machine = StateMachine::new(bare(), Arc::new(Applied::default()), snapshots);
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Build).await.expect("the suite");
}
