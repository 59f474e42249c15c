//! The flags of COMMAND INFO.

/// A set of command flags; names and meaning are Redis's.
///
/// Source: <https://redis.io/docs/latest/commands/command/>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $name:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            /// The names of the flags that are set, in Redis's order; Holdfast's own are left out.
            #[must_use]
            pub fn names(self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.has(Self::$constant) && !$name.is_empty() { names.push($name); })*
                names
            }
        }
    };
}

flags! {
    /// May change keys.
    WRITE = 0, "write";
    /// Only reads keys.
    READONLY = 1, "readonly";
    /// May grow memory: refused above `maxmemory`.
    DENYOOM = 2, "denyoom";
    /// Administration.
    ADMIN = 3, "admin";
    /// Publish and subscribe.
    PUBSUB = 4, "pubsub";
    /// Refused inside scripts.
    NOSCRIPT = 5, "noscript";
    /// May wait for data.
    BLOCKING = 6, "blocking";
    /// Allowed while data is being loaded.
    LOADING = 7, "loading";
    /// Allowed on a replica whose data may be stale.
    STALE = 8, "stale";
    /// Not shown to MONITOR.
    SKIP_MONITOR = 9, "skip_monitor";
    /// Not entered in the slow log.
    SKIP_SLOWLOG = 10, "skip_slowlog";
    /// Asking-free in a cluster.
    ASKING = 11, "asking";
    /// Takes constant or logarithmic time.
    FAST = 12, "fast";
    /// Allowed before authentication.
    NO_AUTH = 13, "no_auth";
    /// May replicate, as scripts may.
    MAY_REPLICATE = 14, "may_replicate";
    /// Refused by async loading.
    NO_ASYNC_LOADING = 15, "no_async_loading";
    /// Refused inside MULTI.
    NO_MULTI = 16, "no_multi";
    /// Its keys stand at places only the command itself knows.
    MOVABLE_KEYS = 17, "movablekeys";
    /// Runs even while a script keeps the server busy.
    ALLOW_BUSY = 18, "allow_busy";
    /// The commands of MULTI's queue that are never queued (MULTI, EXEC, WATCH, …); ours alone.
    NOT_QUEUED = 19, "";
    /// Allowed in RESP2 subscriber mode; ours alone.
    IN_SUBSCRIBER_MODE = 21, "";
    /// Belongs to `@dangerous`; ours alone.
    DANGEROUS = 22, "";
    /// Belongs to `@keyspace` though its group is another; ours alone.
    KEYSPACE = 23, "";
    /// Depends on the order of unordered data: a script may not write after it in a cluster.
    UNORDERED = 24, "";
    /// Belongs to `@set`, `@sortedset` and `@list` though its group is another; ours alone.
    COLLECTIONS = 25, "";
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
