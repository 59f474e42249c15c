//! A slot that lends a borrowed `&mut dyn Caller` to code reached through the Lua interpreter.
//!
//! The interpreter's callbacks are registered once and outlive every run, so they cannot name
//! the lifetime of the caller a run borrows. The slot erases that lifetime for the span of a
//! closure and hands the borrow out to one user at a time.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;

use crate::script::Caller;

type Erased = NonNull<dyn Caller + 'static>;

/// Holds the caller of the script that runs now, or nothing.
#[derive(Default)]
pub(crate) struct CallerSlot {
    /// Invariant: a pointer found here is valid and nobody else uses it. `enter` puts it in
    /// while it holds the unique borrow and takes it out before the borrow ends; `with` takes
    /// it out for as long as it is in use. The cell is not `Sync`, so this is one thread's.
    current: Cell<Option<Erased>>,
}

impl CallerSlot {
    /// Lends `caller` to every [`CallerSlot::with`] made while `body` runs. A nested `enter`
    /// hides the outer caller until it ends. Panics in `body` pass through with the slot restored.
    pub(crate) fn enter<R>(&self, caller: &mut dyn Caller, body: impl FnOnce() -> R) -> R {
        let pointer: NonNull<dyn Caller + '_> = NonNull::from(caller);
        // SAFETY: only the lifetime changes. The guard below takes the pointer out of the slot
        // before this function returns or unwinds, and `caller` is mutably borrowed until then,
        // so no use outlives the borrow and none is concurrent with another.
        let erased = unsafe { mem::transmute::<NonNull<dyn Caller + '_>, Erased>(pointer) };
        let _restore =
            Restore { cell: &self.current, previous: self.current.replace(Some(erased)) };
        body()
    }

    /// Runs `body` with the current caller, or answers `None` if no script runs or the caller is
    /// in use further up the stack (a caller that calls back into its own script).
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut dyn Caller) -> R) -> Option<R> {
        let mut pointer = self.current.take()?;
        // Put back even if `body` panics, so that the rest of the run still has its caller.
        let _restore = Restore { cell: &self.current, previous: Some(pointer) };
        // SAFETY: by the invariant the pointer is valid; the slot is empty while `body` runs, so
        // this is the only reference made from it.
        Some(body(unsafe { pointer.as_mut() }))
    }
}

/// Puts `previous` into the cell when dropped, whether by return or by panic.
struct Restore<'a> {
    cell: &'a Cell<Option<Erased>>,
    previous: Option<Erased>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.cell.set(self.previous);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::Reply;
    use crate::script::Interrupt;

    struct Counter(i64);

    impl Caller for Counter {
        fn call(&mut self, _: &[&[u8]]) -> Reply {
            self.0 += 1;
            Reply::Integer(self.0)
        }
        fn log(&mut self, _: i64, _: &[u8]) {}
        fn seed(&self) -> u64 {
            0
        }
        fn interrupt(&mut self, _: u64) -> Interrupt {
            Interrupt::Continue
        }
    }

    #[test]
    fn the_caller_is_lent_only_inside_enter_and_only_once_at_a_time() {
        let slot = CallerSlot::default();
        assert!(slot.with(|_| ()).is_none());
        let (mut outer, mut inner) = (Counter(0), Counter(10));
        slot.enter(&mut outer, || {
            slot.with(|caller| {
                caller.call(&[]);
                assert!(slot.with(|_| ()).is_none());
            });
            slot.enter(&mut inner, || slot.with(|caller| caller.call(&[])));
            slot.with(|caller| caller.call(&[]));
        });
        assert!(slot.with(|_| ()).is_none());
        assert_eq!((outer.0, inner.0), (2, 11));
    }

    #[test]
    fn a_panic_leaves_the_slot_as_it_was() {
        let slot = CallerSlot::default();
        let mut counter = Counter(0);
        slot.enter(&mut counter, || {
            let result =
                catch_unwind(AssertUnwindSafe(|| slot.with(|_| std::panic::panic_any("boom"))));
            assert!(result.is_err());
            assert!(slot.with(|caller| caller.call(&[])).is_some());
        });
        assert!(slot.with(|_| ()).is_none());
        assert_eq!(counter.0, 1);
    }
}
