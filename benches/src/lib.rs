//! What the benches share: keys that do not repeat in the order they are asked for, an engine
//! filled with them, and a client of a node without a socket.

use std::sync::Arc;

use holdfast::config::Config;
use holdfast::net::connection::prefetch;
use holdfast::node::Node;
use holdfast::resp::{ArgRoom, Batch, Limits, Output, RequestParser};
use holdfast::route::{Flow, Scratch, dispatch};
use holdfast::session::{Client, Session};
use holdfast_engine::Reply;
use holdfast_engine::context::Context;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

/// The time everything happens at, ms.
pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
/// The value most benches store: 16 bytes, as issue 2's figures do.
pub const VALUE: &[u8] = b"xxxxxxxxxxxxxxxx";

/// The `n`th key: 16 bytes, as redis-benchmark makes them.
#[must_use]
pub fn key(n: u64) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

/// Numbers below `bound` that jump about, always the same ones.
#[derive(Debug)]
pub struct Jumps {
    state: u64,
    bound: u64,
}

impl Jumps {
    /// Numbers below `bound`.
    #[must_use]
    pub fn below(bound: u64) -> Self {
        Self { state: 1, bound }
    }
}

impl Iterator for Jumps {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        self.state =
            self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Some(((u128::from(self.state) * u128::from(self.bound)) >> 64) as u64)
    }
}

/// An engine and what its proposals need.
#[derive(Debug)]
pub struct Bench {
    /// The engine.
    pub engine: Engine,
    /// What the last command did.
    pub effects: Effects,
    sequence: u64,
}

impl Default for Bench {
    fn default() -> Self {
        Self::with_keys(0)
    }
}

impl Bench {
    /// An engine with the keys 0 to `count`.
    #[must_use]
    pub fn with_keys(count: u64) -> Self {
        let effects = Effects::new(EventClass::NONE);
        let mut bench = Self { engine: Engine::new(1, 7), effects, sequence: 0 };
        for n in 0..count {
            bench.run(&[b"SET", &key(n), VALUE]);
        }
        bench
    }

    /// The context of the next proposal.
    #[inline]
    pub fn next_context(&mut self) -> Context {
        self.sequence += 1;
        Context::at(NOW, self.sequence)
    }

    /// Runs a command of the engine's table.
    ///
    /// # Panics
    /// If there is no such command.
    #[inline]
    pub fn run(&mut self, args: &[&[u8]]) -> Reply {
        let row = table().find(args[0]).expect("a command of the engine");
        let context = self.next_context();
        self.engine.run(row, args, context, &Alone, &mut self.effects).reply
    }
}

/// A client of a node, without a socket: what a connection does between read and write.
#[derive(Debug)]
pub struct Local {
    /// The node.
    pub node: Arc<Node>,
    session: Session,
    parser: RequestParser,
    batch: Batch,
    room: ArgRoom,
    scratch: Scratch,
    output: Output,
}

impl Default for Local {
    fn default() -> Self {
        let node = Node::new(Config::default());
        let client = Client::new(1, ("local:1".into(), "local:2".into()), -1, false, 0);
        let session = Session::new(&node.pubsub, Arc::new(client), &node.acl);
        Self {
            node,
            session,
            parser: RequestParser::new(Limits::default()),
            batch: Batch::new(),
            room: ArgRoom::new(),
            scratch: Scratch::default(),
            output: Output::new(),
        }
    }
}

impl Local {
    /// Runs one command that was parsed already; the replies' length.
    ///
    /// # Panics
    /// If the command would wait.
    #[inline]
    pub fn dispatch(&mut self, args: &[&[u8]]) -> usize {
        let flow =
            dispatch(&self.node, &mut self.session, args, &mut self.scratch, &mut self.output);
        assert!(matches!(flow, Flow::Done), "no bench waits");
        self.sent()
    }

    /// What a connection does with one read: parse, prefetch, dispatch and encode everything.
    ///
    /// # Panics
    /// If a command would wait.
    #[inline]
    pub fn read(&mut self, buf: &[u8]) -> usize {
        let parsed = self.parser.parse(buf, &mut self.batch);
        assert_eq!(parsed.consumed, buf.len(), "whole commands");
        let commands = self.batch.commands(buf, &mut self.room);
        self.scratch.tally.start(&self.node);
        if commands.len() > 1 {
            prefetch(&self.node, &self.session, &commands);
        }
        for args in commands.iter() {
            let flow =
                dispatch(&self.node, &mut self.session, args, &mut self.scratch, &mut self.output);
            assert!(matches!(flow, Flow::Done), "no bench waits");
        }
        self.room.take_back(commands);
        self.scratch.tally.flush(&self.node);
        self.sent()
    }

    /// Takes the replies away, as the socket would.
    #[inline]
    fn sent(&mut self) -> usize {
        let len = self.output.len();
        bytes::Buf::advance(&mut self.output, len);
        len
    }
}

/// A command as a client sends it.
#[must_use]
pub fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        request.extend(format!("${}\r\n", arg.len()).into_bytes());
        request.extend_from_slice(arg);
        request.extend(b"\r\n");
    }
    request
}
