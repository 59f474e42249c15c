//! Keys that collide under the hasher's published constants, whatever its seed, do not collide
//! here: anyone who has read the library's source could choose them.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::FixedState;
use holdfast_engine::keyspace::Keyspace;

const COUNT: u64 = 1_000;

/// The constants, which the library shows in its debug output only.
fn published() -> Vec<u64> {
    let text = format!("{:?}", SharedSeed::global_fixed());
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Keys of 16 bytes of which one half meets a constant: their product is 0, whatever the other
/// half is.
fn colliding() -> Vec<Vec<u8>> {
    let keys_with = |constant: u64, last: bool| -> Vec<Vec<u8>> {
        let key = |other: u64| {
            let halves = if last { [other, constant] } else { [constant, other] };
            halves.map(u64::to_ne_bytes).concat()
        };
        (0..COUNT).map(key).collect()
    };
    let all_collide = |keys: &Vec<Vec<u8>>| {
        [1, 2, 3].into_iter().all(|seed| {
            let state = FixedState::with_seed(seed);
            let hashes: BTreeSet<u64> = keys.iter().map(|key| hash(&state, key)).collect();
            hashes.len() == 1
        })
    };
    let mut found = published()
        .into_iter()
        .flat_map(|constant| [keys_with(constant, true), keys_with(constant, false)])
        .filter(all_collide);
    found.next().expect("the library's constants are as public as this test takes them to be")
}

fn hash(state: &FixedState, key: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = state.build_hasher();
    hasher.write(key);
    hasher.finish()
}

#[test]
fn keys_that_collide_for_everyone_else_do_not_collide_here() {
    let keys = colliding();
    for seed in [0, 1, 0x9e37_79b9_7f4a_7c15] {
        let keyspace = Keyspace::new(1, seed);
        let hashes: BTreeSet<u64> = keys.iter().map(|key| keyspace.hash(key)).collect();
        assert_eq!(hashes.len(), keys.len(), "seed {seed}");
    }
}
