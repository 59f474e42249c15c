//! LOCK.ACQUIRE.

use super::{DATA_LEN_MAX, LOCK_KEY, change, find, owner_of, purge, ttl_of, wake};
use crate::command::options::{Options, integer, is};
use crate::command::{Args, Command, Flags, Group};
use crate::effects::{Effects, EventClass, Wait};
use crate::error::CommandError;
use crate::host::{Grant, GrantKind};
use crate::keyspace::{View, locks};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::lock::{self, Hold, Lock, Mode};

/// A lock has at most so many holders.
const HOLDERS_MAX: usize = 65_536;
/// Most permits of a semaphore.
const PERMITS_MAX: i64 = 1 << 30;

/// How a command's LOCK.ACQUIRE would wait, as its arguments say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience<'a> {
    /// The unique bytes of the acquisition.
    pub owner: &'a [u8],
    /// How long it has waited before, in a queue that is gone, ms.
    pub age_ms: u64,
}

/// What LOCK.ACQUIRE is asked for.
struct Wish<'a> {
    key: &'a [u8],
    owner: &'a [u8],
    lifetime: Lifetime,
    mode: Mode,
    permits: u32,
    block: Option<Wait>,
    age_ms: u64,
    delay_ms: Option<i64>,
    data: Option<&'a [u8]>,
}

#[derive(Clone, Copy)]
enum Lifetime {
    Ttl(i64),
    Lease(u64),
}

/// Until when a hold lasts.
struct Term {
    expires_at: UnixMillis,
    /// How long it lasts from each renewal.
    ttl_ms: i64,
    lease: u64,
}

impl<'a> Wish<'a> {
    fn parse(args: Args<'a>, now: UnixMillis) -> Result<Self, CommandError> {
        let by_lease = is(args[3], "LEASE");
        if by_lease && args.len() < 5 {
            return Err(CommandError::SYNTAX);
        }
        let lifetime = match by_lease {
            true => Lifetime::Lease(super::lease::id_of(args[4])?),
            false => Lifetime::Ttl(ttl_of(args[3], now, "lock.acquire")?),
        };
        let mut wish = Self {
            key: args[1],
            owner: owner_of(args[2])?,
            lifetime,
            mode: Mode::Exclusive,
            permits: 1,
            block: None,
            age_ms: 0,
            delay_ms: None,
            data: None,
        };
        let mut age = None;
        let mut options = Options::after(args, if by_lease { 5 } else { 4 });
        while let Some(option) = options.next() {
            if is(option, "SHARED") && wish.mode == Mode::Exclusive {
                wish.mode = Mode::Shared;
            } else if is(option, "PERMITS") && wish.mode == Mode::Exclusive {
                let permits = permits_of(options.value()?)?;
                if !is(options.value()?, "LIMIT") {
                    return Err(CommandError::SYNTAX);
                }
                let limit = permits_of(options.value()?)?;
                if permits > limit {
                    return Err(CommandError::known("ERR PERMITS is greater than LIMIT"));
                }
                (wish.mode, wish.permits) = (Mode::Permits(limit), permits);
            } else if is(option, "BLOCK") && wish.block.is_none() {
                let ms = millis_of(options.value()?, now)?;
                wish.block = Some(Wait::for_key(Some(ms).filter(|ms| *ms > 0)));
            } else if is(option, "AGE") && age.is_none() {
                age = Some(millis_of(options.value()?, now)?);
            } else if is(option, "DELAY") && wish.delay_ms.is_none() {
                let ms = millis_of(options.value()?, now)?;
                wish.delay_ms = Some(i64::try_from(ms).unwrap_or(i64::MAX));
            } else if is(option, "DATA") && wish.data.is_none() {
                let data = options.value()?;
                if data.len() > DATA_LEN_MAX {
                    return Err(CommandError::known("ERR DATA must be at most 4096 bytes"));
                }
                wish.data = Some(data);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        if age.is_some() && wish.block.is_none() {
            return Err(CommandError::known("ERR AGE is for BLOCK"));
        }
        wish.age_ms = age.unwrap_or(0);
        Ok(wish)
    }

    fn term(&self, view: &View<'_>) -> Result<Term, CommandError> {
        let now = view.now();
        Ok(match self.lifetime {
            Lifetime::Ttl(ttl_ms) => {
                Term { expires_at: UnixMillis(now.0.saturating_add(ttl_ms)), ttl_ms, lease: 0 }
            }
            Lifetime::Lease(id) => {
                let (ttl_ms, expires_at) =
                    view.locks().lease_times(id, now).ok_or(super::lease::NO_LEASE)?;
                Term { expires_at, ttl_ms, lease: id }
            }
        })
    }

    /// Asks whether the lock may be granted for `term` under a token up to `token`.
    fn ask(&self, view: &View<'_>, term: &Term, token: u64) -> Result<(), CommandError> {
        let lifetime_ms = term.ttl_ms.saturating_add(self.delay_ms.unwrap_or(0));
        view.host().may_grant(Grant { kind: GrantKind::Native, lifetime_ms, token })
    }

    /// What a client gets that cannot have the lock now.
    fn contended(&self, retry_at: Option<UnixMillis>, effects: &mut Effects) -> Reply {
        effects.wait = self.block.map(|wait| Wait { retry_at, ..wait });
        Reply::NilArray
    }
}

fn permits_of(arg: &[u8]) -> Result<u32, CommandError> {
    let permits = integer(arg)?;
    if !(1..=PERMITS_MAX).contains(&permits) {
        return Err(CommandError::known("ERR PERMITS and LIMIT must be 1 to 1073741824"));
    }
    Ok(permits as u32)
}

/// A duration of 0 or more ms that ends before time does.
fn millis_of(arg: &[u8], now: UnixMillis) -> Result<u64, CommandError> {
    let ms = integer(arg)?;
    if now.checked_add_ms(ms).is_none() {
        return Err(CommandError::known("ERR timeout is out of range"));
    }
    u64::try_from(ms).map_err(|_| CommandError::known("ERR timeout is negative"))
}

/// How long a LOCK.ACQUIRE of these arguments has waited before, and for whom; `None` if they
/// are none that can wait.
#[must_use]
pub fn patience(args: Args<'_>) -> Option<Patience<'_>> {
    if args.len() < 4 {
        return None;
    }
    let wish = Wish::parse(args, UnixMillis(0)).ok()?;
    wish.block.map(|_| Patience { owner: wish.owner, age_ms: wish.age_ms })
}

/// The arguments of a LOCK.ACQUIRE that has waited for `waited_ms` in a queue that is gone: it keeps
/// its place among others by its AGE. `None` if it cannot wait.
#[must_use]
pub fn aged(args: Args<'_>, waited_ms: u64) -> Option<Vec<Vec<u8>>> {
    let age_ms = patience(args)?.age_ms.saturating_add(waited_ms);
    let mut at = if is(args[3], "LEASE") { 5 } else { 4 };
    let mut aged: Vec<Vec<u8>> = args[..at].iter().map(|arg| arg.to_vec()).collect();
    while let Some(option) = args.get(at) {
        let len = if is(option, "SHARED") {
            1
        } else if is(option, "PERMITS") {
            4
        } else {
            2
        };
        let end = (at + len).min(args.len());
        if !is(option, "AGE") {
            aged.extend(args[at..end].iter().map(|arg| arg.to_vec()));
        }
        at = end;
    }
    aged.push(b"AGE".to_vec());
    aged.push(age_ms.to_string().into_bytes());
    Some(aged)
}

/// What stands in the way of a new holder.
enum Standing {
    /// Nothing, and nobody holds it.
    Free,
    /// Nothing; others hold it too.
    Joins,
    /// Something, at least until then.
    Closed(Option<UnixMillis>),
    /// The owner itself holds it, with this token.
    Held(u64),
}

/// `LOCK.ACQUIRE key owner ttl-ms | LEASE id [SHARED | PERMITS n LIMIT m] [BLOCK ms [AGE ms]]
/// [DELAY ms] [DATA v]`: token and remaining ms, or nil when others hold it. O(N) in the holders.
///
/// The same owner may ask again, whatever became of the reply: it keeps its token, its time
/// begins anew. BLOCK 0 waits without end.
fn acquire(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let wish = Wish::parse(args, view.now())?;
    let term = wish.term(view)?;
    if lock::count() > 0 {
        purge(view, wish.key, effects);
    }
    match standing(view, &wish)? {
        Standing::Closed(until) => Ok(wish.contended(until, effects)),
        Standing::Held(token) => again(view, &wish, &term, token, effects),
        Standing::Free | Standing::Joins if view.host().is_lock_awaited(view.db(), wish.key) => {
            // Those who wait are served in a moment, each in its turn.
            Ok(wish.contended(None, effects))
        }
        Standing::Free => grant(view, &wish, &term, true, effects),
        Standing::Joins => grant(view, &wish, &term, false, effects),
    }
}

fn standing(view: &View<'_>, wish: &Wish<'_>) -> Result<Standing, CommandError> {
    let now = view.now();
    let Some(record) = view.peek(wish.key) else { return Ok(Standing::Free) };
    let Ok((lock, expires_at)) = super::lock_in(record) else {
        // A plain key is a lock of somebody else's making.
        return Ok(Standing::Closed(record.expires_at()));
    };
    if let Some(holder) = lock.find(wish.owner, expires_at, now) {
        if lock.mode() != wish.mode || holder.permits != wish.permits {
            return Err(CommandError::known("ERR this owner holds the lock in another mode"));
        }
        return Ok(Standing::Held(holder.token));
    }
    let Lock::Full(full) = lock else { return Ok(Standing::Closed(Some(expires_at))) };
    if let Some(until) = full.delayed_until(now) {
        return Ok(Standing::Closed(Some(until)));
    }
    let fits = match (full.mode(), wish.mode) {
        (Mode::Shared, Mode::Shared) => true,
        (Mode::Permits(has), Mode::Permits(limit)) if has != limit => {
            return Err(CommandError::new(format!("ERR the semaphore has LIMIT {has}")));
        }
        (Mode::Permits(limit), Mode::Permits(_)) => {
            full.permits_held() + u64::from(wish.permits) <= u64::from(limit)
        }
        _ => false,
    };
    if !fits {
        return Ok(Standing::Closed(full.next_change(now)));
    }
    if full.len() >= HOLDERS_MAX {
        return Err(CommandError::known("ERR the lock has too many holders"));
    }
    Ok(Standing::Joins)
}

/// Gives the lock to a new holder, the first or one more.
fn grant(
    view: &mut View<'_>,
    wish: &Wish<'_>,
    term: &Term,
    first: bool,
    effects: &mut Effects,
) -> CommandResult {
    wish.ask(view, term, view.locks().token() + 1)?;
    tie(view, wish, term)?;
    let token = view.draw_token();
    let plain = term.lease == 0 && wish.delay_ms.is_none() && wish.data.is_none();
    if first && plain && wish.mode == Mode::Exclusive {
        let object = lock::exclusive(wish.owner, token, term.expires_at);
        view.set_object(wish.key, object, Some(term.expires_at), effects);
    } else {
        let hold = Hold {
            owner: wish.owner.into(),
            token,
            expires_at: term.expires_at,
            permits: wish.permits,
            lease: term.lease,
            delay_ms: wish.delay_ms.unwrap_or(0),
            data: wish.data.map(Into::into),
        };
        if first {
            let ends_at = UnixMillis(hold.expires_at.0.saturating_add(hold.delay_ms));
            let object = lock::with_hold(wish.mode, hold);
            view.set_object(wish.key, object, Some(ends_at), effects);
        } else {
            change(view, wish.key, effects, |full| full.add(wish.mode, hold));
        }
    }
    locks::count(&view.locks().counts.granted, 1);
    effects.changed(1);
    effects.event(EventClass::LOCK, "lock.granted", view.db(), wish.key);
    Ok(granted(view, token, term))
}

/// The holder asks again: its time begins anew.
fn again(
    view: &mut View<'_>,
    wish: &Wish<'_>,
    term: &Term,
    token: u64,
    effects: &mut Effects,
) -> CommandResult {
    wish.ask(view, term, view.locks().token())?;
    tie(view, wish, term)?;
    let db = view.db();
    let before = find(view, wish.key)?
        .and_then(|(lock, expires_at)| lock.find(wish.owner, expires_at, view.now()))
        .map(|holder| (holder.expires_at, holder.lease, holder.data.is_some()));
    let plain = term.lease == 0 && wish.delay_ms.is_none() && wish.data.is_none();
    let is_short = matches!(find(view, wish.key)?, Some((Lock::Short(_), _)));
    if plain && is_short {
        view.set_expiry(wish.key, Some(term.expires_at), effects);
    } else {
        change(view, wish.key, effects, |full| {
            if let Some(hold) = full.find_mut(wish.owner) {
                hold.expires_at = term.expires_at;
                hold.lease = term.lease;
                hold.delay_ms = wish.delay_ms.unwrap_or(hold.delay_ms);
                if let Some(data) = wish.data {
                    hold.data = Some(data.into());
                }
            }
        });
    }
    if let Some((expires_at, lease, _)) = before {
        if let Some(lease) = lease.filter(|lease| *lease != term.lease) {
            view.locks().untie(lease, db, wish.key);
        }
        if term.expires_at < expires_at {
            wake(view, wish.key, effects);
        }
    }
    effects.changed(1);
    Ok(granted(view, token, term))
}

/// Ties the key to the lease it is to depend on.
fn tie(view: &View<'_>, wish: &Wish<'_>, term: &Term) -> Result<(), CommandError> {
    if term.lease != 0 && !view.locks().tie(term.lease, view.db(), wish.key) {
        return Err(super::lease::TOO_MANY_KEYS);
    }
    Ok(())
}

fn granted(view: &View<'_>, token: u64, term: &Term) -> Reply {
    Reply::Record(vec![
        ("token", Reply::Integer(token as i64)),
        ("pttl", Reply::Integer(term.expires_at.ms_since(view.now()))),
    ])
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::write("lock.acquire", -4, Group::Lock, acquire)
    .keys(LOCK_KEY)
    .flags(Flags::DENYOOM.with(Flags::BLOCKING).with(Flags::FAST))
    .doc(
        "holdfast 0.1",
        "O(N) where N is the number of holders.",
        "key owner <ttl-ms | LEASE id> [SHARED | PERMITS permits LIMIT limit] [BLOCK ms [AGE ms]] [DELAY ms] [DATA value]",
        "Takes a lock, alone, as a reader or with some of its permits. Returns a fencing token.",
    )
    .differs("Holdfast's own.")];
