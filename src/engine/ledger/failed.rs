//! Methods whose failure is remembered.
//!
//! The failure itself stands in the method's state, so it lasts as long as the record. That a key is not tried again and
//! again by somebody who makes a handle each time, the records of some that failed are kept here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ByNumber, Ledger};
use crate::error::Error;
use crate::evict::MethodId;
use crate::method::{Failure, Key, Method, State};

/// Records that are kept because of a failure, at most.
const KEPT: usize = 256;

/// Records that are kept because of a failure.
pub(super) struct Failed<K: Key> {
    methods: ByNumber<MethodId, Arc<Method<K>>>,
    /// The oldest first; with some that are not there any more.
    order: VecDeque<MethodId>,
}

impl<K: Key> Default for Failed<K> {
    fn default() -> Self {
        Self {
            methods: ByNumber::default(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Key> Ledger<K> {
    /// A compilation of a method has failed.
    pub(super) fn note_failure(
        &mut self,
        method: &Arc<Method<K>>,
        state: &mut State,
        error: Error,
    ) {
        let before = state.failure.take();
        // What has code is not asked for by anybody who could not have it.
        let failure = match state.resident {
            None => Failure::of(error, before.as_deref(), self.patience),
            Some(_) => Err(error),
        };
        self.gone.errors.extend(before.map(|failure| failure.error));
        match failure {
            Ok(failure) => {
                state.failure = Some(Box::new(failure));
                self.keep_record(method);
            }
            Err(error) if method.is_waited_for() => {
                state.failure = Some(Box::new(Failure::to_be_heard(error)));
            }
            // Nobody asks how it ended.
            Err(error) => self.gone.errors.push(error),
        }
    }

    /// The method's failure is past.
    pub(crate) fn forget_failure(&mut self, method: &Method<K>, state: &mut State) {
        if let Some(failure) = state.failure.take() {
            self.gone.errors.push(failure.error);
            self.gone
                .methods
                .extend(self.failed.methods.remove(&method.id));
        }
    }

    fn keep_record(&mut self, method: &Arc<Method<K>>) {
        let failed = &mut self.failed;
        if failed.methods.insert(method.id, method.clone()).is_some() {
            return;
        }
        failed.order.push_back(method.id);
        if failed.order.len() > 2 * KEPT {
            failed.order.retain(|id| failed.methods.contains_key(id));
        }
        while failed.methods.len() > KEPT {
            let Some(oldest) = failed.order.pop_front() else {
                return;
            };
            self.gone.methods.extend(failed.methods.remove(&oldest));
        }
    }

    /// All records that are kept, for the end of the cache.
    pub(crate) fn take_failed(&mut self) -> impl Sized + use<K> {
        std::mem::take(&mut self.failed)
    }
}
