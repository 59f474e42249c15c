//! Fenced RedLock on `N` servers, without any assumption about time.
//!
//! A client sends its requests to all servers at once and they stay under way for ever: each may
//! arrive at any time, again and again, or never. What a server answered may be read by its
//! client at any later time, or never. A lock is gone when it pleases (expiry, release), and a
//! crash loses it, so that the number of losses bounds the walk.

use stateright::{Model, Property};

/// The smallest majority of `N` servers.
const fn quorum<const N: usize>() -> u32 {
    N as u32 / 2 + 1
}

/// What may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Omission {
    /// The client uses the greatest token of its majority at once.
    SecondPhase,
    /// A crash sets the counter back.
    DurableCounters,
    /// A server accepts a fence below the token it granted.
    GrantCheck,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fenced<const N: usize> {
    /// Acquisitions, each with an owner of its own.
    pub(crate) clients: usize,
    /// How many locks may be lost, by expiry or crash.
    pub(crate) losses: u8,
    /// Counters begin with 0 to this: earlier acquisitions that failed have moved them apart.
    pub(crate) spread: u8,
    /// What is left out.
    pub(crate) omission: Option<Omission>,
}

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// Durable: the greatest token granted or fenced.
    counter: u8,
    /// The owner of the lock and its token.
    lock: Option<(u8, u8)>,
}

/// One acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client<const N: usize> {
    started: bool,
    /// The greatest token whose holder knew of it before this one started.
    floor: u8,
    /// The tokens that each server has answered with, as bits.
    answers: [u16; N],
    /// Its token, once it has chosen; from then on its fences are under way.
    token: u8,
    /// The servers that acknowledged its token, as bits.
    fenced: u8,
    won: bool,
}

/// The state of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State<const N: usize> {
    servers: [Server; N],
    clients: Vec<Client<N>>,
    losses_left: u8,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action<const N: usize> {
    /// A client sends its requests to all servers.
    Start { client: usize },
    /// A request arrives where the lock is free, for the first time or again.
    Grant { client: usize, server: usize },
    /// A client reads these answers (0 for none) and sends its fences.
    Choose { client: usize, answers: [u8; N] },
    /// A fence arrives where the client still holds the lock, and is acknowledged.
    Fence { client: usize, server: usize },
    /// The lock expires or is released.
    Expire { server: usize },
    /// The server crashes and comes back without the lock.
    Crash { server: usize },
}

impl<const N: usize> Fenced<N> {
    /// The protocol with all its ingredients.
    pub(crate) fn sound(clients: usize, losses: u8, spread: u8) -> Self {
        Self { clients, losses, spread, omission: None }
    }

    fn lacks(&self, omission: Omission) -> bool {
        self.omission == Some(omission)
    }
}

/// The same state with the servers in a fixed order: they are alike.
pub(crate) fn with_servers_sorted<const N: usize>(state: &State<N>) -> State<N> {
    let column = |server: usize| {
        let of = state.servers[server];
        let clients: Vec<(u16, u8)> = state
            .clients
            .iter()
            .map(|client| (client.answers[server], client.fenced >> server & 1))
            .collect();
        (of.counter, of.lock, clients, server)
    };
    let mut columns: Vec<_> = (0..N).map(column).collect();
    columns.sort();
    let mut sorted = state.clone();
    for client in &mut sorted.clients {
        client.fenced = 0;
    }
    for (at, (counter, lock, clients, _)) in columns.into_iter().enumerate() {
        sorted.servers[at] = Server { counter, lock };
        for (client, (answers, fenced)) in sorted.clients.iter_mut().zip(clients) {
            client.answers[at] = answers;
            client.fenced |= fenced << at;
        }
    }
    sorted
}

fn tokens(bits: u16) -> impl Iterator<Item = u8> {
    (1..16).filter(move |token| bits & (1 << token) != 0)
}

/// The ways to read answers of a majority, one from each server that is read.
fn readings<const N: usize>(client: &Client<N>) -> Vec<[u8; N]> {
    let mut readings = vec![[0; N]];
    for server in 0..N {
        let mut more = readings.clone();
        for token in tokens(client.answers[server]) {
            more.extend(readings.iter().map(|reading| {
                let mut reading = *reading;
                reading[server] = token;
                reading
            }));
        }
        readings = more;
    }
    let read = |reading: &[u8; N]| reading.iter().filter(|token| **token > 0).count() as u32;
    readings.retain(|reading| read(reading) >= quorum::<N>());
    readings
}

impl<const N: usize> Model for Fenced<N> {
    type State = State<N>;
    type Action = Action<N>;

    fn init_states(&self) -> Vec<State<N>> {
        let client =
            Client { started: false, floor: 0, answers: [0; N], token: 0, fenced: 0, won: false };
        let state = |counters: [u8; N]| State {
            servers: counters.map(|counter| Server { counter, lock: None }),
            clients: vec![client; self.clients],
            losses_left: self.losses,
        };
        // Servers are alike: only sorted counters.
        let mut counters = vec![[0; N]];
        for server in 0..N {
            counters = counters
                .into_iter()
                .flat_map(|before: [u8; N]| {
                    let least = server.checked_sub(1).map_or(0, |last| before[last]);
                    (least..=self.spread).map(move |counter| {
                        let mut counters = before;
                        counters[server] = counter;
                        counters
                    })
                })
                .collect();
        }
        counters.into_iter().map(state).collect()
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action<N>>) {
        // Clients are alike: they start in order.
        if let Some(client) = state.clients.iter().position(|client| !client.started) {
            actions.push(Action::Start { client });
        }
        for (client, of) in state.clients.iter().enumerate().filter(|(_, of)| of.started) {
            if of.token == 0 {
                let readings = readings(of).into_iter();
                actions.extend(readings.map(|answers| Action::Choose { client, answers }));
            }
            for server in 0..N {
                match state.servers[server].lock {
                    None => actions.push(Action::Grant { client, server }),
                    Some((owner, granted)) if usize::from(owner) == client && of.token > 0 => {
                        if of.token >= granted || self.lacks(Omission::GrantCheck) {
                            actions.push(Action::Fence { client, server });
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        if state.losses_left > 0 {
            for server in 0..N {
                if state.servers[server].lock.is_some() {
                    actions.push(Action::Expire { server });
                }
                if state.servers[server].lock.is_some() || self.lacks(Omission::DurableCounters) {
                    actions.push(Action::Crash { server });
                }
            }
        }
    }

    fn next_state(&self, last: &State<N>, action: Action<N>) -> Option<State<N>> {
        let mut state = last.clone();
        match action {
            Action::Start { client } => {
                let known = last.clients.iter().filter(|other| other.won);
                let floor = known.map(|other| other.token).max().unwrap_or(0);
                let of = &mut state.clients[client];
                (of.started, of.floor) = (true, floor);
            }
            Action::Grant { client, server } => {
                let of = &mut state.servers[server];
                of.counter += 1;
                of.lock = Some((client as u8, of.counter));
                state.clients[client].answers[server] |= 1 << of.counter;
            }
            Action::Choose { client, answers } => {
                let of = &mut state.clients[client];
                of.token = answers.iter().copied().max()?;
                // Where the grant was this very token there is nothing to fence.
                for (server, token) in answers.iter().enumerate() {
                    of.fenced |= u8::from(*token == of.token) << server;
                }
                of.won =
                    of.fenced.count_ones() >= quorum::<N>() || self.lacks(Omission::SecondPhase);
            }
            Action::Fence { client, server } => {
                let of = &mut state.clients[client];
                let token = of.token;
                of.fenced |= 1 << server;
                of.won |= of.fenced.count_ones() >= quorum::<N>();
                let server = &mut state.servers[server];
                server.lock = Some((client as u8, token));
                server.counter = server.counter.max(token);
            }
            Action::Expire { server } => {
                state.servers[server].lock = None;
                state.losses_left -= 1;
            }
            Action::Crash { server } => {
                state.servers[server].lock = None;
                if self.lacks(Omission::DurableCounters) {
                    state.servers[server].counter = 0;
                }
                state.losses_left -= 1;
            }
        }
        for client in &mut state.clients {
            if client.token > 0 {
                // It reads no further answers.
                client.answers = [0; N];
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("tokens are unique", |_, state: &State<N>| {
                let won: Vec<u8> =
                    state.clients.iter().filter(|of| of.won).map(|of| of.token).collect();
                (1..won.len()).all(|n| !won[..n].contains(&won[n]))
            }),
            Property::always("tokens are in real-time order", |_, state: &State<N>| {
                state.clients.iter().all(|of| !of.won || of.token > of.floor)
            }),
        ]
    }
}
