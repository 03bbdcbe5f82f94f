//! How many requests may wait to be compiled, and what becomes of more.

use super::Builder;
use crate::method::Key;

/// What becomes of a request when the queue is full: see [`Builder::backlog`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backlog {
    /// It is refused: [`Error::Backlog`](crate::Error::Backlog).
    #[default]
    Refuse,
    /// What has been asked for only once, and longest ago, goes in its stead, and whoever asked for it is not told. If
    /// all that waits has been asked for more than once, it is the new request that goes.
    DropColdest,
    /// Who asks waits until there is room; where there are no [workers](Builder::workers), he makes some by
    /// compiling. A thread that is pinned stays so meanwhile. On a compile worker, and in calls that go to a
    /// [fallback](Builder::fallback), the request is refused, and so is a promotion.
    Wait,
}

/// What [`Builder`] documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) limit: usize,
    pub(crate) full: Backlog,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            full: Backlog::Refuse,
        }
    }
}

impl<K: Key> Builder<K> {
    /// How many requests may wait to be compiled, and what happens to a [request](crate::Handle::request) that comes
    /// when there are so many. Default: no limit: each method waits once at most, and its record, which is charged to the
    /// budget, is there in any case.
    ///
    /// It is about requests of those who do not wait; promotions count as such. Who waits (in
    /// [`get`](crate::Handle::get), in a call without a fallback, or by a [future](crate::Handle::compiled)) is always
    /// let in, and what is waited for is never dropped.
    pub fn backlog(mut self, limit: usize, full: Backlog) -> Self {
        self.config.backlog = Settings { limit, full };
        self
    }
}
