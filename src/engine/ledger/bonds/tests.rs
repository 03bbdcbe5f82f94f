//! Bonds against a list of all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::invalidate::{Assumption, settle};

const METHODS: u64 = 12;
const ASSUMPTIONS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A method is compiled, and relies on these.
    Bind(u64, Vec<usize>),
    /// Its code goes.
    Unbind(u64),
    /// The version advances; what relied on it is looked at later.
    Advance(usize),
    /// What relies on older versions goes.
    Drain(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let assumption = 0..ASSUMPTIONS;
    prop_oneof![
        4 => (0..METHODS, prop::collection::vec(assumption.clone(), 0..8))
            .prop_map(|(method, all)| Step::Bind(method, all)),
        2 => (0..METHODS).prop_map(Step::Unbind),
        1 => assumption.clone().prop_map(Step::Advance),
        1 => assumption.prop_map(Step::Drain),
    ]
}

/// Every bond is in both lists, at the places that they say.
fn check(bonds: &Bonds, all: &BTreeSet<(u64, usize, u64)>, assumptions: &[Assumption]) {
    assert_eq!(bonds.alive(), all.len() as u64);
    let mut found = BTreeSet::new();
    for (&method, list) in &bonds.methods {
        for (i, bond) in list.iter().enumerate() {
            let versions = &bonds.assumptions[&name(&bond.assumption)];
            let (_, dependents) = versions.iter().find(|(v, _)| *v == bond.version).unwrap();
            let there = dependents[bond.place];
            assert_eq!((there.method, there.bond), (method, i));
            let which = assumptions.iter().position(|a| a.is(&bond.assumption));
            found.insert((number(method), which.unwrap(), bond.version));
        }
    }
    assert_eq!(&found, all);
    let lists = bonds.assumptions.values().flatten();
    assert_eq!(
        lists.clone().map(|(_, list)| list.len()).sum::<usize>(),
        all.len()
    );
    assert!(lists.clone().all(|(_, list)| !list.is_empty()));
    assert!(
        bonds
            .assumptions
            .values()
            .all(|versions| !versions.is_empty())
    );
    assert!(bonds.methods.values().all(|list| !list.is_empty()));
    assert_eq!(all.is_empty(), bonds.bytes.load(Ordering::Relaxed) == 0);
}

fn id(n: u64) -> MethodId {
    MethodId::new(n)
}

fn number(id: MethodId) -> u64 {
    id.get()
}

proptest! {
    #[test]
    fn both_sides_agree(steps in prop::collection::vec(step(), 1..200)) {
        let assumptions: Vec<_> = (0..ASSUMPTIONS).map(|_| Assumption::new()).collect();
        let mut bonds = Bonds::default();
        // Method, assumption, version.
        let mut all: BTreeSet<(u64, usize, u64)> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Bind(method, which) => {
                    if all.iter().any(|(m, ..)| *m == method) {
                        continue;
                    }
                    let mut new: Vec<Bond> = which.iter().map(|&a| assumptions[a].bond()).collect();
                    settle(&mut new);
                    bonds.bind(id(method), new);
                    all.extend(which.iter().map(|&a| (method, a, assumptions[a].version())));
                }
                Step::Unbind(method) => {
                    let before = all.len();
                    all.retain(|(m, ..)| *m != method);
                    prop_assert_eq!(bonds.unbind(id(method)), before - all.len());
                }
                Step::Advance(a) => drop(assumptions[a].invalidate()),
                Step::Drain(a) => {
                    let now = assumptions[a].version();
                    let old: BTreeSet<u64> =
                        all.iter().filter(|(_, b, v)| *b == a && *v < now).map(|(m, ..)| *m).collect();
                    let mut gone = BTreeSet::new();
                    while let Some(method) = bonds.older(&assumptions[a].bond().assumption, now) {
                        bonds.unbind(method);
                        prop_assert!(gone.insert(number(method)), "twice");
                    }
                    prop_assert_eq!(&gone, &old);
                    all.retain(|(m, ..)| !old.contains(m));
                }
            }
            check(&bonds, &all, &assumptions);
        }
    }
}

#[test]
fn a_bond_that_was_asked_for_twice_is_one_and_the_older() {
    let a = Assumption::new();
    let first = a.bond();
    drop(a.invalidate());
    let mut twice = vec![a.bond(), first];
    settle(&mut twice);
    assert_eq!(twice.len(), 1);
    assert!(!twice[0].is_current());
}

#[test]
fn who_moves_a_method_is_told_what_it_relies_on() {
    let (a, b) = (Assumption::new(), Assumption::new());
    let mut bonds = Bonds::default();
    bonds.bind(id(1), vec![a.bond(), b.bond()]);
    assert_eq!(bonds.of(id(1)).count(), 2);
    assert!(bonds.of(id(1)).any(|inner| a.is(inner)));
    assert_eq!(bonds.of(id(2)).count(), 0);
    bonds.unbind(id(1));
    assert_eq!(bonds.of(id(1)).count(), 0);
}
