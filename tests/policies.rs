//! The eviction policies against models so simple that they are plainly right, and every policy
//! against the contract of [`Policy`], an embedder's own included.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use inkpot::evict::{Cost, Lru, MethodId, Policy, Sieve};
use proptest::collection::vec;
use proptest::prelude::*;

/// The news and questions that a policy may get, about ids from a small set, so that strangers,
/// repetitions and returns are all common.
#[derive(Clone, Debug)]
enum Step {
    Insert(MethodId, u64),
    Hit(MethodId),
    Remove(MethodId),
    /// Asks, and does nothing about the answer.
    Ask,
    /// Asks, and evicts the victim.
    Evict,
    /// Asks, and answers that the victim was called meanwhile.
    Reprieve,
    /// Asks, evicts, and brings the victim back as one called in probation.
    Relink,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || (0_u64..12).prop_map(MethodId::new);
    let step = prop_oneof![
        6 => (id(), 1_u64..5000).prop_map(|(id, bytes)| Step::Insert(id, bytes)),
        6 => id().prop_map(Step::Hit),
        3 => id().prop_map(Step::Remove),
        2 => Just(Step::Ask),
        3 => Just(Step::Evict),
        2 => Just(Step::Reprieve),
        1 => Just(Step::Relink),
    ];
    vec(step, 0..300)
}

fn cost(bytes: u64) -> Cost {
    Cost::new(bytes, Duration::from_micros(bytes))
}

/// Takes one step, and gives what `victim()` said where the step asked.
fn take(policy: &mut dyn Policy, step: &Step) -> Option<Option<MethodId>> {
    match *step {
        Step::Insert(id, bytes) => policy.insert(id, cost(bytes)),
        Step::Hit(id) => policy.hit(id),
        Step::Remove(id) => policy.remove(id),
        Step::Ask | Step::Evict | Step::Reprieve | Step::Relink => {
            let victim = policy.victim();
            if let Some(id) = victim {
                match step {
                    Step::Evict => policy.remove(id),
                    Step::Reprieve => policy.hit(id),
                    Step::Relink => {
                        policy.remove(id);
                        policy.insert(id, cost(1));
                        policy.hit(id);
                    }
                    _ => {}
                }
            }
            return Some(victim);
        }
    }
    None
}

/// Least recently used first.
#[derive(Default)]
struct LruModel(Vec<MethodId>);

impl Policy for LruModel {
    fn insert(&mut self, id: MethodId, _cost: Cost) {
        if !self.0.contains(&id) {
            self.0.push(id);
        }
    }

    fn hit(&mut self, id: MethodId) {
        if self.0.contains(&id) {
            self.remove(id);
            self.0.push(id);
        }
    }

    fn remove(&mut self, id: MethodId) {
        self.0.retain(|&other| other != id);
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.0.first().copied()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self) -> &'static str {
        "model of lru"
    }
}

/// The paper's algorithm over an array: oldest first, the hand a position in it.
#[derive(Default)]
struct SieveModel {
    queue: Vec<(MethodId, bool)>,
    hand: usize,
}

impl SieveModel {
    fn position(&self, id: MethodId) -> Option<usize> {
        self.queue.iter().position(|&(other, _)| other == id)
    }
}

impl Policy for SieveModel {
    fn insert(&mut self, id: MethodId, _cost: Cost) {
        if self.position(id).is_none() {
            self.queue.push((id, false));
        }
    }

    fn hit(&mut self, id: MethodId) {
        if let Some(at) = self.position(id) {
            self.queue[at].1 = true;
        }
    }

    fn remove(&mut self, id: MethodId) {
        if let Some(at) = self.position(id) {
            self.queue.remove(at);
            if at < self.hand {
                self.hand -= 1;
            }
            // The newest went from under the hand: back to the oldest, now and not only at the
            // next search, or a method inserted before it would be taken for the next in turn.
            if self.hand == self.queue.len() {
                self.hand = 0;
            }
        }
    }

    fn victim(&mut self) -> Option<MethodId> {
        while let Some((id, visited)) = self.queue.get_mut(self.hand) {
            if !*visited {
                return Some(*id);
            }
            *visited = false;
            self.hand = (self.hand + 1) % self.queue.len();
        }
        None
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn name(&self) -> &'static str {
        "model of sieve"
    }
}

/// What an embedder might write first: any candidate, by a generator of its own.
struct Random {
    candidates: Vec<MethodId>,
    place: HashMap<MethodId, usize>,
    state: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self {
            candidates: Vec::new(),
            place: HashMap::new(),
            state: seed | 1,
        }
    }
}

impl Policy for Random {
    fn insert(&mut self, id: MethodId, _cost: Cost) {
        if !self.place.contains_key(&id) {
            self.place.insert(id, self.candidates.len());
            self.candidates.push(id);
        }
    }

    fn hit(&mut self, _id: MethodId) {}

    fn remove(&mut self, id: MethodId) {
        if let Some(at) = self.place.remove(&id) {
            self.candidates.swap_remove(at);
            if let Some(&moved) = self.candidates.get(at) {
                self.place.insert(moved, at);
            }
        }
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let count = u64::try_from(self.candidates.len()).ok()?;
        let at = self.state.checked_rem(count)?;
        self.candidates.get(usize::try_from(at).ok()?).copied()
    }

    fn len(&self) -> usize {
        self.candidates.len()
    }

    fn name(&self) -> &'static str {
        "random"
    }
}

/// The policies that come with the crate: ordered, so that more can be said about them.
fn ours() -> Vec<Box<dyn Policy>> {
    vec![Box::new(Lru::new()), Box::new(Sieve::new())]
}

fn all() -> Vec<Box<dyn Policy>> {
    let mut policies = ours();
    policies.push(Box::new(Random::new(0x1234_5678)));
    policies
}

fn agree(mut policy: impl Policy, mut model: impl Policy, steps: &[Step]) {
    for step in steps {
        assert_eq!(
            take(&mut policy, step),
            take(&mut model, step),
            "at {step:?}"
        );
        assert_eq!(policy.len(), model.len(), "after {step:?}");
        assert_eq!(policy.is_empty(), model.len() == 0, "after {step:?}");
    }
    // What is left comes out in the same order too.
    while let Some(victim) = model.victim() {
        assert_eq!(policy.victim(), Some(victim));
        policy.remove(victim);
        model.remove(victim);
    }
    assert_eq!(policy.victim(), None);
    assert!(policy.is_empty());
}

proptest! {
    #[test]
    fn lru_agrees_with_its_model(steps in steps()) {
        agree(Lru::new(), LruModel::default(), &steps);
    }

    #[test]
    fn sieve_agrees_with_its_model(steps in steps()) {
        agree(Sieve::new(), SieveModel::default(), &steps);
    }

    /// Whatever was said before: the count is right, a victim is named exactly if there is a
    /// candidate, only candidates are named, and all of them come out, once each.
    #[test]
    fn every_policy_names_candidates_only(steps in steps()) {
        for mut policy in all() {
            let mut candidates = BTreeSet::new();
            for step in &steps {
                let victim = take(&mut *policy, step);
                if let Some(victim) = victim {
                    prop_assert_eq!(victim.is_some(), !candidates.is_empty(), "{:?}", policy);
                    prop_assert!(victim.is_none_or(|id| candidates.contains(&id)), "{:?}", policy);
                }
                match (step, victim.flatten()) {
                    (&Step::Insert(id, _), _) => { candidates.insert(id); }
                    (&Step::Remove(id), _) | (Step::Evict, Some(id)) => { candidates.remove(&id); }
                    _ => {}
                }
                prop_assert_eq!(policy.len(), candidates.len(), "{:?}", policy);
                prop_assert_eq!(policy.is_empty(), candidates.is_empty(), "{:?}", policy);
            }
            while let Some(id) = policy.victim() {
                prop_assert!(candidates.remove(&id), "{id:?} was named twice by {:?}", policy);
                policy.remove(id);
            }
            prop_assert!(candidates.is_empty(), "{:?} never named {candidates:?}", policy);
        }
    }

    /// Without hits there is nothing to tell two methods apart but their age.
    #[test]
    fn without_hits_ours_are_first_in_first_out(steps in steps()) {
        for mut policy in ours() {
            let mut queue = LruModel::default();
            for step in steps.iter().filter(|step| !matches!(step, Step::Hit(_) | Step::Reprieve | Step::Relink)) {
                prop_assert_eq!(take(&mut *policy, step), take(&mut queue, step), "{:?}", policy);
            }
        }
    }

    /// If every victim turns out to have been called meanwhile, two rounds come to all of them.
    #[test]
    fn ours_make_progress_when_all_victims_are_hit(steps in steps()) {
        for mut policy in ours() {
            for step in &steps {
                take(&mut *policy, step);
            }
            let mut named = BTreeSet::new();
            for _ in 0..2 * policy.len() {
                named.extend(take(&mut *policy, &Step::Reprieve).flatten());
            }
            prop_assert_eq!(named.len(), policy.len(), "{:?}", policy);
        }
    }

    /// To ask is no news: asked again, the answer is the same.
    #[test]
    fn ours_stand_by_their_victim(steps in steps()) {
        for mut policy in ours() {
            for step in &steps {
                take(&mut *policy, step);
                let victim = policy.victim();
                prop_assert_eq!(policy.victim(), victim, "{:?}", policy);
            }
        }
    }
}

fn id(number: u64) -> MethodId {
    MethodId::new(number)
}

/// By letters: A to G are in the cache, A, B and G are hit; then for each new method one goes.
#[test]
fn sieve_keeps_what_was_visited_in_its_place() {
    let mut sieve = Sieve::new();
    for letter in b'A'..=b'G' {
        sieve.insert(id(letter.into()), cost(1));
    }
    for letter in *b"ABG" {
        sieve.hit(id(letter.into()));
    }
    let mut evicted = String::new();
    for letter in *b"HIJKLMN" {
        let victim = sieve.victim().expect("seven candidates");
        evicted.push(char::from(victim.get() as u8));
        sieve.remove(victim);
        sieve.insert(id(letter.into()), cost(1));
    }
    // C D E F; then the hand takes G's bit and comes to H, I, J, which came in behind it, before it
    // starts over at A.
    assert_eq!(evicted, "CDEFHIJ");
}

/// A scan of methods called once must not push out those in use.
#[test]
fn a_scan_passes_through_sieve_but_not_through_lru() {
    let survivors = |mut policy: Box<dyn Policy>| {
        let hot = 0..50;
        for number in 0..100 {
            policy.insert(id(number), cost(1));
        }
        for number in hot.clone() {
            policy.hit(id(number));
        }
        for number in 1000..1120 {
            let victim = policy.victim().expect("a hundred candidates");
            policy.remove(victim);
            policy.insert(id(number), cost(1));
        }
        let mut left = BTreeSet::new();
        while let Some(victim) = policy.victim() {
            policy.remove(victim);
            left.insert(victim);
        }
        hot.filter(|&number| left.contains(&id(number))).count()
    };
    assert_eq!(survivors(Box::new(Sieve::new())), 50);
    assert_eq!(survivors(Box::new(Lru::new())), 0);
}

/// Compiling a method anew, in place, changes its cost and nothing else.
#[test]
fn a_new_cost_is_no_use() {
    for mut policy in ours() {
        policy.insert(id(1), cost(10));
        policy.insert(id(2), cost(10));
        policy.insert(id(1), cost(99));
        assert_eq!(policy.len(), 2, "{policy:?}");
        assert_eq!(policy.victim(), Some(id(1)), "{policy:?}");
    }
}

/// A cache in small, as the real one talks to a policy: calls noted in cells and passed on only to
/// answer for a victim, probation, and a budget. Any policy must keep it inside.
#[test]
fn every_policy_keeps_a_small_cache_within_its_budget() {
    const BUDGET: u64 = 10_000;
    for mut policy in all() {
        let mut resident: HashMap<MethodId, u64> = HashMap::new();
        let mut called: BTreeSet<MethodId> = BTreeSet::new();
        let mut state = 42_u64;
        let mut hits = 0;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Squared, so that low numbers are asked for often.
            let draw = (state >> 40) % 64;
            let method = id(draw * draw / 8);
            called.insert(method);
            if resident.contains_key(&method) {
                hits += 1;
                continue;
            }
            let bytes = 50 + (method.get() * 37) % 400;
            resident.insert(method, bytes);
            policy.insert(method, cost(bytes));
            let mut patience = 2 * policy.len();
            while resident.values().sum::<u64>() > BUDGET {
                let victim = policy
                    .victim()
                    .expect("over the budget, so something is resident");
                if called.remove(&victim) && patience > 0 {
                    patience -= 1;
                    policy.hit(victim);
                } else {
                    policy.remove(victim);
                    resident.remove(&victim).expect("a victim is resident");
                }
            }
            assert_eq!(policy.len(), resident.len(), "{policy:?}");
        }
        assert!(hits > 10_000, "{policy:?}: {hits} hits");
    }
}

#[test]
fn names_tell_policies_apart() {
    let names: BTreeSet<_> = all().iter().map(|policy| policy.name()).collect();
    assert_eq!(names, BTreeSet::from(["lru", "random", "sieve"]));
}
