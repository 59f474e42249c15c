//! The scripts: what takes several commands and must happen in one step on a node.
//!
//! For plain Redis and Valkey everything but taking one key; for Holdfast only what concerns several
//! resources, whose commands for one need no script.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use crate::net::codec::encode;

/// A script and the digest servers keep it by.
pub(crate) struct Script {
    source: &'static str,
    sha: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        let mut sha = String::new();
        for byte in Sha1::digest(source.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(sha, "{byte:02x}");
        }
        Self { source, sha }
    }
}

/// All keys or none; a key that is already ours is kept, so that a top-up may repeat itself.
pub(crate) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:take
for i = 1, #KEYS do
  local v = redis.pcall('get', KEYS[i])
  if v and v ~= ARGV[1] then return 0 end
end
for i = 1, #KEYS do redis.call('set', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
return 1",
    )
});

/// 1 extended, 0 forgotten here, -1 another owner's. Only ever lengthens: an extension that fails to
/// find a quorum must not have cut short the lease that still stands.
pub(crate) static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:extend
local missing = false
for i = 1, #KEYS do
  local v = redis.pcall('get', KEYS[i])
  if not v then missing = true elseif v ~= ARGV[1] then return -1 end
end
if missing then return 0 end
for i = 1, #KEYS do
  if redis.call('pttl', KEYS[i]) < tonumber(ARGV[2]) then redis.call('pexpire', KEYS[i], ARGV[2]) end
end
return 1",
    )
});

/// Deletes what is ours; 1 if that was every key.
pub(crate) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:release
local n = 0
for i = 1, #KEYS do
  if redis.pcall('get', KEYS[i]) == ARGV[1] then n = n + redis.call('del', KEYS[i]) end
end
if n == #KEYS then return 1 end
return 0",
    )
});

/// All locks under one token, or none and `false`. Taking them again as the same owner changes nothing
/// but the time: each keeps the token it has, which is the one returned.
pub(crate) static LOCK_TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:lock-take
local token = 0
for i = 1, #KEYS do
  local r = redis.pcall('LOCK.ACQUIRE', KEYS[i], ARGV[1], ARGV[2], unpack(ARGV, 3))
  if not r or r.err then
    for j = 1, i - 1 do redis.call('LOCK.RELEASE', KEYS[j], ARGV[1]) end
    return r
  end
  if r[1] > token then token = r[1] end
end
for i = 1, #KEYS do
  redis.call('LOCK.RENEW', KEYS[i], ARGV[1], ARGV[2], 'FENCE', string.format('%.0f', token))
end
return {token, tonumber(ARGV[2])}",
    )
});

/// The token the locks have now, or `false` if one of them is not ours.
pub(crate) static LOCK_RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:lock-renew
local token = false
for i = 1, #KEYS do
  local r = redis.pcall('LOCK.RENEW', KEYS[i], ARGV[1], unpack(ARGV, 2))
  if not r or type(r) == 'table' then return r end
  token = r
end
return token",
    )
});

/// Releases what is ours; 1 if that was every lock.
pub(crate) static LOCK_RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:lock-release
local n = 0
for i = 1, #KEYS do
  if redis.pcall('LOCK.RELEASE', KEYS[i], ARGV[1]) == 1 then n = n + 1 end
end
if n == #KEYS then return 1 end
return 0",
    )
});

/// How a script is named on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Digest,
    Source,
}

impl Script {
    /// Appends a call of the script.
    pub(crate) fn write(&self, out: &mut BytesMut, form: Form, keys: &[Bytes], values: &[&[u8]]) {
        let count = keys.len().to_string();
        let mut args: Vec<&[u8]> = match form {
            Form::Digest => vec![b"EVALSHA", self.sha.as_bytes()],
            Form::Source => vec![b"EVAL", self.source.as_bytes()],
        };
        args.push(count.as_bytes());
        args.extend(keys.iter().map(AsRef::<[u8]>::as_ref));
        args.extend_from_slice(values);
        encode(out, &args);
    }
}
