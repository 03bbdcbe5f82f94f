//! The reclaimer at work: what is dead waits for a grace period, and is then taken apart.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::core::{Core, lock};
use super::ledger::{Charge, Corpse};
use super::stall::{ASKING_STEP, Asking};
use super::tell::Told;
use super::{fork, quiet};
use crate::config;
use crate::error::Error;
use crate::generation::{Body, Context};
use crate::invalidate::Inner;
use crate::method::{Forgotten, Key, Method};
use crate::observe::{Stall, event};
use crate::reclaim::{Domain, Grace, Reclaimer};
use crate::sync::fault::kept;
use crate::sync::time::Instant;
use crate::sync::{Condvar, Mutex};

/// Grace periods whose age is remembered.
const REMEMBERED_AGES: usize = 256;
/// Bytes of contexts disposed of after which the allocator is asked to give memory back, and
/// the least time between two times. Trimming takes milliseconds.
const TRIM_BYTES: u64 = 1 << 20;
const TRIM_PAUSE: Duration = Duration::from_millis(100);

/// Somebody who waits for a grace period.
#[derive(Default)]
pub(crate) struct Ticket {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Ticket {
    /// Waits at most so long; true when the grace period is over.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let over = lock(&self.over);
        if *over {
            return true;
        }
        *self
            .changed
            .wait_timeout(over, patience)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn ring(&self) {
        *lock(&self.over) = true;
        if kept("ticket.notify") {
            self.changed.notify_all();
        }
    }
}

/// What waits for one grace period.
struct Wake<K: Key> {
    grace: Grace,
    corpses: Vec<Corpse<K>>,
    tickets: Vec<Arc<Ticket>>,
}

/// What a generation leaves behind when its memory is gone: what its code called, and what it is
/// charged for until these are gone too.
type Remains<K> = ((Vec<Arc<Method<K>>>, Vec<Arc<Inner>>), Charge);

/// The reclaimer's own state. Whoever holds its lock is the reclaimer.
pub(crate) struct Reclaim<K: Key> {
    reclaimer: Reclaimer,
    wakes: Vec<Wake<K>>,
    /// Methods that the table has forgotten. What it forgets meanwhile waits there, for the next grace period.
    forgotten: Option<(Grace, Forgotten<K>)>,
    /// It has forgotten so many that they count. Some bytes each: nobody waits for a few.
    forgotten_much: bool,
    /// Their grace period is over, and a stack or a lease holds them: looked at again and again.
    held: Vec<Corpse<K>>,
    /// The system refused to unmap them: to be tried again.
    refused: Vec<Corpse<K>>,
    /// Generations whose memory is gone, and whose callees are being dropped.
    remains: usize,
    ages: Vec<Duration>,
    untrimmed: u64,
    last_trim: Instant,
    pub(super) asking: Asking,
    /// Who keeps memory from coming back, while that goes on for too long.
    pub(super) stall: Option<Stall>,
}

impl<K: Key> Reclaim<K> {
    pub(crate) fn new(domain: &Arc<Domain>) -> Self {
        Self {
            reclaimer: Reclaimer::new(domain),
            wakes: Vec::new(),
            forgotten: None,
            forgotten_much: false,
            held: Vec::new(),
            refused: Vec::new(),
            remains: 0,
            ages: Vec::new(),
            untrimmed: 0,
            last_trim: Instant::now(),
            asking: Asking::new(),
            stall: None,
        }
    }

    /// Generations whose grace period runs, or that are held.
    pub(crate) fn fallow(&self) -> usize {
        self.wakes.iter().map(|w| w.corpses.len()).sum::<usize>()
            + self.held.len()
            + self.refused.len()
            + self.remains
    }

    /// Generations that nothing but a hold keeps.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Who keeps memory from coming back.
    pub(crate) fn stall(&self) -> Option<&Stall> {
        self.stall.as_ref()
    }

    /// Ages of the last grace periods, from the death of a generation to its recycling; without
    /// those of generations that were held.
    pub(crate) fn ages(&self) -> &[Duration] {
        &self.ages
    }

    /// How long the oldest grace period that is not over has been running.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let forgotten = self.forgotten.as_ref().filter(|_| self.forgotten_much);
        let graces = self.wakes.iter().map(|w| &w.grace);
        let graces = graces.chain(forgotten.map(|(grace, _)| grace));
        // (Look-ups by threads that need not be participants may still be waited for.)
        let graces = graces.filter(|grace| !grace.is_over());
        graces.map(Grace::age).max()
    }

    pub(crate) fn bury_dead_participants(&mut self) {
        self.reclaimer.bury_the_dead();
    }
}

impl<K: Key> Core<K> {
    /// The life of the reclaimer's thread.
    pub(super) fn reclaim_until_closed(&self) {
        while !self.queue.is_closed() {
            let waits = self.maintain();
            let (oldest, asks, tidy) = {
                let reclaim = lock(&self.reclaim);
                let tidy = reclaim.forgotten.is_none();
                (reclaim.oldest(), reclaim.asking.asks(), tidy)
            };
            let patience = match oldest {
                _ if asks => ASKING_STEP,
                None if !waits && tidy => Duration::from_secs(1),
                None if !waits => Duration::from_millis(50),
                // Only holds: the next safepoint may give them up.
                None => Duration::from_millis(10),
                // A participant that has not moved for long is not asked a thousand times a second.
                Some(age) if age > Duration::from_millis(200) => Duration::from_millis(10),
                Some(_) => Duration::from_millis(1),
            };
            self.bell.wait(patience.min(self.overtime.patience()));
        }
    }

    /// One step of reclamation. True while something waits for a grace period.
    pub(crate) fn maintain(&self) -> bool {
        if self.check_fork().is_err() {
            return false;
        }
        let mut reclaim = lock(&self.reclaim);
        let contexts = self.retire(&mut reclaim);
        self.take_forgotten(&mut reclaim);
        // For what is held too: safepoints do something only when the tick has moved.
        let idle = reclaim.wakes.is_empty() && reclaim.held.is_empty();
        if !idle || reclaim.forgotten.is_some() {
            reclaim.reclaimer.step();
        }
        let is_over = |(grace, forgotten): &mut (Grace, Forgotten<K>)| {
            (grace.is_over() || !kept("forgotten.grace")) && forgotten.is_over()
        };
        let forgotten = reclaim.forgotten.take_if(is_over);
        let (over, running) = std::mem::take(&mut reclaim.wakes)
            .into_iter()
            .partition(|w| w.grace.is_over() || !kept("recycle.grace"));
        reclaim.wakes = running;
        let mut corpses = std::mem::take(&mut reclaim.refused);
        corpses.append(&mut reclaim.held);
        for wake in over {
            wake.tickets.iter().for_each(|t| t.ring());
            corpses.extend(wake.corpses);
        }
        let remains: Vec<Remains<K>> = corpses
            .into_iter()
            .filter_map(|corpse| self.recycle(&mut reclaim, corpse))
            .collect();
        let waits = reclaim.fallow() > 0 || !reclaim.wakes.is_empty();
        self.ask(&mut reclaim);
        let stalled = self.look_for_stalls(&mut reclaim);
        let many = remains.len();
        reclaim.remains += many;
        drop(reclaim);
        // User code from here on (a backend's contexts, keys, the prelude): no lock is held.
        self.tell_of_stall(stalled);
        self.look_for_overtime();
        if let Some((_, forgotten)) = forgotten {
            // SAFETY: both kinds of readers have left it: it said so, and so did a grace period that began when it was taken.
            unsafe { forgotten.destroy() };
        }
        let bytes = self.dispose(contexts);
        for (kept, charge) in remains {
            crate::contain(|| drop(kept));
            // Both at once: who looks at both sees it in one of them.
            let mut reclaim = lock(&self.reclaim);
            self.ledger().recycled(&charge);
            reclaim.remains -= 1;
        }
        self.refill_pool();
        self.rest_for_workers();
        trim(&mut lock(&self.reclaim), bytes, !waits);
        if let Some(outbox) = &self.outbox
            && self.config.reclaimer == config::Reclaimer::Manual
        {
            outbox.tell();
        }
        waits
    }

    /// Starts a grace period for what the table has forgotten, unless one runs.
    fn take_forgotten(&self, reclaim: &mut Reclaim<K>) {
        if reclaim.forgotten.is_none() {
            let forgotten = self.table.take_forgotten();
            if forgotten.len() > 0 {
                let grace = reclaim.reclaimer.start();
                reclaim.forgotten = Some((grace, forgotten));
            }
        }
        let taken = reclaim.forgotten.as_ref();
        let taken = taken.map_or(0, |(_, forgotten)| forgotten.len());
        reclaim.forgotten_much = self.table.has_forgotten_much(taken);
    }

    /// Starts a grace period for what died, and for who waits. Returns the contexts of what died:
    /// code needs none, so they need not wait.
    fn retire(&self, reclaim: &mut Reclaim<K>) -> Vec<(Context, u64)> {
        let early = (!kept("retire.unlinked_first")).then(|| reclaim.reclaimer.start());
        let mut corpses = std::mem::take(&mut self.ledger().dead);
        let tickets = std::mem::take(&mut *lock(&self.tickets));
        let contexts = corpses
            .iter_mut()
            .filter_map(|corpse| {
                let context = corpse.body.context.take()?;
                Some((context, std::mem::take(&mut corpse.charge.context)))
            })
            .collect();
        if !corpses.is_empty() || !tickets.is_empty() {
            let grace = early.unwrap_or_else(|| reclaim.reclaimer.start());
            reclaim.wakes.push(Wake {
                grace,
                corpses,
                tickets,
            });
        }
        contexts
    }

    /// Disposes of contexts: those given, with what the ledger charges for each, and those
    /// released at sealing. Returns their bytes.
    fn dispose(&self, contexts: Vec<(Context, u64)>) -> u64 {
        let released = std::mem::take(&mut *lock(&self.released_contexts));
        let mut bytes = 0;
        for (context, charged) in contexts
            .into_iter()
            .chain(released.into_iter().map(|context| (context, 0)))
        {
            bytes += context.bytes;
            let inside = quiet::go_inside();
            crate::contain(|| drop(context));
            drop(inside);
            self.ledger().disposed(charged);
        }
        bytes
    }

    /// Takes a generation apart: unwind tables and memory. What it leaves to be dropped is
    /// returned.
    fn recycle(&self, reclaim: &mut Reclaim<K>, mut corpse: Corpse<K>) -> Option<Remains<K>> {
        let first_time = !corpse.was_held;
        if !corpse.body.region.close(self.domain.holds()) && kept("recycle.held") {
            if first_time {
                corpse.was_held = true;
                self.ledger().hold(&corpse.charge);
            }
            reclaim.held.push(corpse);
            return None;
        }
        // SAFETY: the generation's methods were unlinked before it was handed over, a grace period
        // has passed since, and no hold was left after that: no thread is inside, nor has an entry.
        let released =
            fork::while_not_forking(|| unsafe { corpse.body.region.release(&self.space) });
        if released.is_err() {
            reclaim.refused.push(corpse);
            return None;
        }
        let waited = corpse.died.elapsed();
        if corpse.was_held {
            self.ledger().unhold(&corpse.charge);
        } else {
            if reclaim.ages.len() == REMEMBERED_AGES {
                reclaim.ages.remove(0);
            }
            reclaim.ages.push(waited);
        }
        event!("recycled", generation = corpse.id, ?waited);
        self.put(|| Told::Recycled {
            generation: corpse.id,
            bytes: corpse.charge.total(),
            waited,
        });
        // Assumptions may be the last to keep a method, too.
        let Body {
            callees,
            assumptions,
            ..
        } = corpse.body;
        Some(((callees, assumptions), corpse.charge))
    }

    /// Makes a spare context, if one is wanted. One at a time: many workers take them as fast as they are made, and
    /// what is dead waits meanwhile.
    fn refill_pool(&self) {
        if self.pool.wants_more() && !self.queue.is_closed() {
            match catch_unwind(AssertUnwindSafe(|| self.open_context())) {
                Ok(Ok(context)) => {
                    self.pool.put(context);
                    if self.pool.wants_more() {
                        self.bell.ring();
                    }
                }
                // Whoever needs one tries again, and is told.
                Ok(Err(_)) => {}
                Err(panic) => std::mem::forget(panic),
            }
        }
    }

    /// The reclaimer shall dispose of a context.
    pub(super) fn dispose_later(&self, context: Context) {
        lock(&self.released_contexts).push(context);
        self.bell.ring();
    }

    /// Contexts that wait for the reclaimer to dispose of them.
    pub(crate) fn released_contexts(&self) -> usize {
        lock(&self.released_contexts).len()
    }

    /// Waits for a grace period that begins now.
    pub(crate) fn wait_for_grace(&self, patience: Option<Duration>) -> Result<(), Error> {
        self.check_fork()?;
        if crate::compile::on_a_worker() {
            return Err(Error::WouldDeadlock);
        }
        if self.domain.this_thread_is_pinned() {
            return Err(Error::Pinned);
        }
        let ticket = Arc::<Ticket>::default();
        lock(&self.tickets).push(ticket.clone());
        self.bell.ring();
        let started = Instant::now();
        let step = Duration::from_millis(1);
        loop {
            if self.config.reclaimer == config::Reclaimer::Manual {
                self.maintain();
            }
            if ticket.wait(step) {
                return Ok(());
            }
            if self.queue.is_closed() {
                return Err(Error::ShuttingDown);
            }
            if patience.is_some_and(|p| started.elapsed() >= p) {
                let (_, pinned) = self.domain.pinned();
                let participant = pinned
                    .into_iter()
                    .next()
                    .map_or_else(String::new, |p| p.name);
                return Err(Error::Stalled {
                    participant,
                    waited: started.elapsed(),
                });
            }
        }
    }

    /// Frees everything. For the last owner: no thread is pinned, none compiles.
    pub(super) fn tear_down(&mut self) {
        let mut bodies: Vec<Body<K>> = Vec::new();
        bodies.extend(self.open.take().into_iter().map(|open| open.body));
        let ledger = self
            .ledger
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let reclaim = self
            .reclaim
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        bodies.extend(ledger.take_bodies());
        let waiting = std::mem::take(&mut reclaim.wakes)
            .into_iter()
            .flat_map(|w| w.corpses);
        let rest = reclaim.held.drain(..).chain(reclaim.refused.drain(..));
        bodies.extend(waiting.chain(rest).map(|c| c.body));
        for body in &bodies {
            let forget = |assumption: &Arc<Inner>| assumption.forget(&self.relying);
            body.assumptions.iter().for_each(forget);
        }
        // All tables are deregistered before anything of the embedder's is dropped: that may
        // panic, and the reservation goes in any case.
        fork::while_not_forking(|| {
            for body in bodies.iter_mut().rev() {
                // SAFETY: participants, leases and holds of stacks keep the cache, so there is none,
                // and no thread is inside, nor will be. What cannot be unmapped one by one goes with the reservation.
                let _ = unsafe { body.region.release(&self.space) };
            }
        });
        for body in bodies {
            crate::contain(|| drop(body));
        }
        for home in ledger.take_homes() {
            crate::contain(|| drop(home));
        }
        crate::contain(|| drop(ledger.take_failed()));
        crate::contain(|| self.table.release_all());
        if let Some((_, forgotten)) = reclaim.forgotten.take() {
            // SAFETY: the table is read by who has the cache, and nobody has it.
            unsafe { forgotten.destroy() };
        }
    }
}

/// Gives freed heap back to the system: contexts are freed on another thread than the one that
/// filled them, and the allocator keeps what it can.
fn trim<K: Key>(reclaim: &mut Reclaim<K>, bytes: u64, at_rest: bool) {
    reclaim.untrimmed += bytes;
    let enough = reclaim.untrimmed >= TRIM_BYTES || (at_rest && reclaim.untrimmed > 0);
    if enough && reclaim.last_trim.elapsed() >= TRIM_PAUSE {
        // SAFETY: no preconditions.
        #[cfg(not(feature = "_checked"))]
        unsafe {
            libc::malloc_trim(0)
        };
        reclaim.untrimmed = 0;
        reclaim.last_trim = Instant::now();
    }
}
