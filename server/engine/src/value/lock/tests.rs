//! Tests of the shapes a lock takes.

use super::codec::{decode, encode};
use super::*;

const NOW: UnixMillis = UnixMillis(1_000);

fn until(ms: i64) -> UnixMillis {
    UnixMillis(NOW.0 + ms)
}

fn lock(object: &Object) -> Lock<'_> {
    Lock::of(object).unwrap()
}

#[test]
fn a_plain_hold_stands_in_the_object() {
    let longest = [b'o'; OWNER_INLINE_MAX];
    let object = exclusive(&longest, 7, until(10));
    assert_eq!((object.memory_len(), object.encoding()), (0, "holder"));
    let holder = lock(&object).find(&longest, until(10), NOW).unwrap();
    assert_eq!((holder.token, holder.expires_at), (7, until(10)));
    assert!(lock(&object).find(b"other", until(10), NOW).is_none());
    assert!(lock(&object).find(&longest, until(10), until(10)).is_none());
    assert_eq!(exclusive(&[b'o'; 23], 7, until(10)).encoding(), "holders");
}

#[test]
fn both_shapes_of_a_hold_have_one_digest() {
    use std::hash::{BuildHasher, Hasher};
    let digest = |object: &Object| {
        let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
        object.digest(&mut hasher);
        hasher.finish()
    };
    let short = exclusive(b"me", 7, until(10));
    let mut full = short.clone();
    full_mut(&mut full, until(10)).unwrap();
    assert_ne!(short.encoding(), full.encoding());
    assert_eq!(digest(&short), digest(&full));
    assert_ne!(digest(&short), digest(&exclusive(b"me", 8, until(10))));
}

#[test]
fn expired_holders_leave_their_delay() {
    let mut hold = Hold::plain(b"a", 1, until(10));
    hold.delay_ms = 5;
    let mut full = Full::new(Mode::Shared, hold);
    full.add(Mode::Shared, Hold::plain(b"b", 2, until(12)));
    assert_eq!((full.ends_at(), full.next_change(NOW)), (until(15), Some(until(10))));
    assert_eq!(full.purge(until(10)), 1);
    assert_eq!(full.delayed_until(until(10)), Some(until(15)));
    assert_eq!(full.purge(until(12)), 1);
    assert!(full.is_empty() && !full.is_over(until(14)) && full.is_over(until(15)));
}

#[test]
fn bytes_read_back_as_the_same_lock() {
    let mut hold = Hold::plain(b"me", 9, until(10));
    let plain = with_hold(Mode::Exclusive, hold.clone());
    hold.data = Some(b"".as_slice().into());
    (hold.permits, hold.lease, hold.delay_ms) = (3, 77, 5);
    let mut several = with_hold(Mode::Permits(9), hold);
    let full = full_mut(&mut several, NOW).unwrap();
    full.add(Mode::Permits(9), Hold::plain(b"you", 10, until(99)));
    for object in [plain, several] {
        let mut bytes = Vec::new();
        encode(lock(&object), until(10), &mut bytes);
        let (read, ends_at) = decode(&bytes).unwrap();
        assert_eq!(read, object);
        assert_eq!(ends_at, if object.encoding() == "holder" { until(10) } else { until(99) });
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "{len} bytes of {}", bytes.len());
        }
    }
}

#[test]
fn the_bytes_of_a_lock_are_frozen() {
    let mut bytes = Vec::new();
    let object = exclusive(b"me", 9, UnixMillis(3));
    encode(lock(&object), UnixMillis(3), &mut bytes);
    let expected: Vec<u8> = [
        &[1, 0][..],
        &[0; 4],
        &[0; 8],
        &[1, 0, 0, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[0; 16],
        &[2, 0, 0, 0],
        b"me",
        &[0; 4],
    ]
    .concat();
    assert_eq!(bytes, expected);
}
