//! Wishes: methods that somebody would rather have compiled, and does not wait for.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::core::Core;
use crate::error::Error;
use crate::method::{Key, Method, State};
use crate::sync::atomic::Ordering;
use crate::sync::time::Instant;

impl<K: Key> Core<K> {
    /// The failure for which a method is not compiled now, whoever asks.
    pub(super) fn refuses(&self, state: &State) -> Option<Error> {
        let failure = state.failure.as_ref().filter(|failure| failure.stands());
        failure.map(|failure| failure.error.clone())
    }

    /// Whether one more wish for a method, by somebody who does not wait, has it compiled.
    pub(super) fn grants(&self, state: &mut State) -> bool {
        let settings = &self.config.wishes;
        let now = Instant::now();
        if state.thrash.puts_off(now, settings.damping) {
            self.damped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let granted = state.asks.admits(settings.admission, now);
        if !granted {
            self.not_admitted.fetch_add(1, Ordering::Relaxed);
        }
        granted
    }

    /// Code that is there, if only on probation, or else the `fallback`; then the code is wished for. Never waits.
    pub(crate) fn code_or(&self, method: &Arc<Method<K>>, fallback: NonZeroUsize) -> usize {
        // First: in a forked child the method's lock may be held by nobody.
        if self.check_fork().is_ok() {
            if let Some(entry) = self.link_again(method) {
                method.note_call(entry);
                return entry;
            }
            let failed = method.lock().failure.as_ref().is_some_and(|f| f.stands());
            if !failed {
                // It is only a wish: where nothing is compiled any more the fallback goes on.
                let _ = self.wish(method);
            }
        }
        fallback.get()
    }
}
