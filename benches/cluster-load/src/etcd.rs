//! A client of etcd's gRPC API, with the few messages it needs written out.

use std::str::FromStr as _;

use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoRequest as _, Request};

use crate::{Client, Failure, Op, VALUE_LEN};

/// More connections than this make etcd no faster.
const CONNECTIONS_MAX: usize = 64;
/// How long the lease lasts that a client's locks hang on, s.
const LEASE_S: i64 = 600;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Reads one key; without `serializable` it is linearizable.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl_s: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockResponse {
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// An answer whose content does not matter.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Anything {}

/// One client; several share a connection.
pub(crate) struct Etcd {
    grpc: Grpc<Channel>,
    number: usize,
    lease: i64,
}

async fn open(addr: &str) -> Result<Grpc<Channel>, Failure> {
    let endpoint = Endpoint::from_str(&format!("http://{addr}"))?.tcp_nodelay(true);
    Ok(Grpc::new(endpoint.connect().await?))
}

/// Clients of the leader among `addrs`.
pub(crate) async fn connect(addrs: &[String], clients: usize) -> Result<Vec<Etcd>, Failure> {
    let mut leader = addrs.first().ok_or("no address")?;
    for addr in addrs {
        let mut asked = Etcd { grpc: open(addr).await?, number: 0, lease: 0 };
        let path = "/etcdserverpb.Maintenance/Status";
        let status: StatusResponse = asked.call(Anything {}, path).await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            leader = addr;
        }
    }
    let mut channels = Vec::new();
    for _ in 0..clients.min(CONNECTIONS_MAX) {
        channels.push(open(leader).await?);
    }
    let mut all = Vec::with_capacity(clients);
    for number in 0..clients {
        let grpc = channels[number % channels.len()].clone();
        all.push(Etcd { grpc, number, lease: 0 });
    }
    Ok(all)
}

impl Etcd {
    async fn call<Q, A>(&mut self, request: Q, path: &'static str) -> Result<A, Failure>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await?;
        let request: Request<Q> = request.into_request();
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(self.grpc.unary(request, path, codec).await?.into_inner())
    }
}

impl Client for Etcd {
    async fn act(&mut self, op: Op, key: u64) -> Result<(), Failure> {
        let name = format!("key:{key}").into_bytes();
        match op {
            Op::Put => {
                let put = PutRequest { key: name, value: vec![b'x'; VALUE_LEN] };
                self.call::<_, Anything>(put, "/etcdserverpb.KV/Put").await.map(drop)
            }
            Op::Get => {
                let range = RangeRequest { key: name };
                self.call::<_, Anything>(range, "/etcdserverpb.KV/Range").await.map(drop)
            }
            Op::Lock => {
                if self.lease == 0 {
                    let grant = LeaseGrantRequest { ttl_s: LEASE_S };
                    let path = "/etcdserverpb.Lease/LeaseGrant";
                    self.lease = self.call::<_, LeaseGrantResponse>(grant, path).await?.id;
                }
                let name = format!("lock:{}", self.number).into_bytes();
                let lock = LockRequest { name, lease: self.lease };
                let held: LockResponse = self.call(lock, "/v3lockpb.Lock/Lock").await?;
                let unlock = UnlockRequest { key: held.key };
                self.call::<_, Anything>(unlock, "/v3lockpb.Lock/Unlock").await.map(drop)
            }
        }
    }
}
