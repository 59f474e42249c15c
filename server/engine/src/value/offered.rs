//! A long argument whose memory a record may take over instead of copying it.
//!
//! Arguments are borrowed, and a string of hundreds of megabytes would stand twice in memory while it
//! is stored. So whoever runs a command can offer the memory of one argument, which is shared from
//! then on. What is stored, and when, does not depend on it.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static OFFERED: RefCell<Option<Arc<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Takes the offer back, however the command ends.
struct Offer;

impl Drop for Offer {
    fn drop(&mut self) {
        OFFERED.take();
    }
}

/// Runs a command of which one argument is all of `bytes`.
pub fn offering<T>(bytes: &Arc<Vec<u8>>, run: impl FnOnce() -> T) -> T {
    OFFERED.set(Some(Arc::clone(bytes)));
    let _offer = Offer;
    run()
}

/// The bytes to be kept: those that are offered, if it is these, and otherwise a copy.
pub(crate) fn kept(bytes: &[u8]) -> Arc<Vec<u8>> {
    let offered = OFFERED.with_borrow(|offered| {
        offered.as_ref().filter(|offered| std::ptr::eq(offered.as_slice(), bytes)).cloned()
    });
    offered.unwrap_or_else(|| Arc::new(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_offered_is_shared_and_only_while_it_is() {
        let bytes = Arc::new(vec![7; 1000]);
        let same = |kept: &Arc<Vec<u8>>| Arc::ptr_eq(kept, &bytes);
        assert!(offering(&bytes, || same(&kept(&bytes))));
        assert!(!offering(&bytes, || same(&kept(&bytes[1..]))));
        assert!(!offering(&bytes, || same(&kept(&[7; 1000]))));
        assert!(!same(&kept(&bytes)));
        assert_eq!(*kept(&bytes), *bytes);
        let panicked = std::panic::catch_unwind(|| offering(&bytes, || panic!("a command")));
        assert!(panicked.is_err() && !same(&kept(&bytes)));
    }
}
