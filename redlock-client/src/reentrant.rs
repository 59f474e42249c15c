//! Re-entrancy, counted here and not on the servers: a retry can then never miscount.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use crate::error::Error;
use crate::guard::Lease;
use crate::lock::Lock;
use crate::run::Kept;

/// A lock that whoever shares this handle can enter again while one of them is inside.
///
/// The servers know one acquisition, however often it is entered: the first to enter acquires, the last to
/// leave releases, and in between a task renews. Clones share it; another handle for the same resource,
/// in this process or elsewhere, is another owner and waits. Clones do not exclude one another.
#[derive(Clone, Debug)]
pub struct Reentrant {
    lock: Lock,
    inside: Arc<Mutex<Weak<Kept>>>,
}

impl Reentrant {
    pub(crate) fn new(lock: Lock) -> Self {
        Self { lock, inside: Arc::default() }
    }

    /// Enters: acquires the lock if nobody who shares this handle is inside.
    ///
    /// # Errors
    /// Those of [`Lock::acquire`]. [`Error::Lost`] if the lock was lost while others are still inside:
    /// they must leave before it can be acquired anew.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the acquisition, if there is one.
    pub async fn enter(&self) -> Result<Entered, Error> {
        // Held over the acquisition: who comes meanwhile wants what comes of it.
        let mut inside = self.inside.lock().await;
        if let Some(kept) = inside.upgrade() {
            return if kept.is_held() { Ok(Entered(kept)) } else { Err(Error::Lost) };
        }
        let kept = Arc::new(self.lock.hold().await?);
        *inside = Arc::downgrade(&kept);
        Ok(Entered(kept))
    }

    /// How often it is entered at the moment.
    pub async fn depth(&self) -> usize {
        self.inside.lock().await.strong_count()
    }
}

/// One entry into a [`Reentrant`] lock. The last one dropped releases in the background.
#[derive(Debug)]
#[must_use = "an entry that is dropped is left at once"]
pub struct Entered(Arc<Kept>);

impl Entered {
    /// Leaves; the last one out releases, and reports whether the nodes confirm that.
    ///
    /// # Errors
    /// As [`Guard::release`](crate::Guard::release), for the last one out.
    ///
    /// # Cancel safety
    /// Whenever the future is dropped, a release goes on in the background.
    pub async fn leave(self) -> Result<(), Error> {
        match Arc::into_inner(self.0) {
            Some(kept) => kept.release().await,
            None => Ok(()),
        }
    }
}

impl Deref for Entered {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.0
    }
}
