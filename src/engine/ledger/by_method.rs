//! A table by method, as large as there are cells: the number of a method has that of its cell in it, so nothing is
//! hashed, and what is looked for is one line of memory away. Nor does it ever stop to copy all that it has, as a hash
//! table does that grows: everybody waits for the ledger.

use std::ops::Index;

use crate::evict::MethodId;
use crate::method::cell_of;

/// Places that come and go together. Few: one that is taken keeps all of them.
const CHUNK: usize = 8;

/// See the module's documentation.
pub(super) struct ByMethod<T> {
    chunks: Vec<Chunk<T>>,
    len: usize,
    /// Places that there are.
    places: usize,
}

/// By cell: who has it, and what.
type Places<T> = Box<[Option<(MethodId, T)>; CHUNK]>;

struct Chunk<T> {
    /// None while all are empty.
    places: Option<Places<T>>,
    taken: usize,
}

impl<T> Default for ByMethod<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            places: 0,
        }
    }
}

fn place_of(id: MethodId) -> (usize, usize) {
    let cell = cell_of(id) as usize;
    (cell / CHUNK, cell % CHUNK)
}

impl<T> ByMethod<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of places that nobody has.
    pub(super) fn empty_bytes(&self) -> u64 {
        ((self.places - self.len) * size_of::<Option<(MethodId, T)>>()) as u64
    }

    pub(super) fn get(&self, id: MethodId) -> Option<&T> {
        let (chunk, place) = place_of(id);
        let places = self.chunks.get(chunk)?.places.as_ref()?;
        // The cell may have been another method's.
        let (its, there) = places[place].as_ref()?;
        (*its == id).then_some(there)
    }

    /// The method has none yet, nor any other with its cell.
    pub(super) fn insert(&mut self, id: MethodId, what: T) {
        let (chunk, place) = place_of(id);
        if self.chunks.len() <= chunk {
            let none = || Chunk {
                places: None,
                taken: 0,
            };
            self.chunks.resize_with(chunk + 1, none);
        }
        let chunk = &mut self.chunks[chunk];
        let places = chunk.places.get_or_insert_with(|| {
            self.places += CHUNK;
            Box::new([const { None }; CHUNK])
        });
        let place = &mut places[place];
        debug_assert!(place.is_none(), "a cell of two methods");
        *place = Some((id, what));
        chunk.taken += 1;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: MethodId) -> Option<T> {
        let (chunk, place) = place_of(id);
        let chunk = self.chunks.get_mut(chunk)?;
        let places = chunk.places.as_mut()?;
        let (_, what) = places[place].take_if(|(its, _)| *its == id)?;
        chunk.taken -= 1;
        if chunk.taken == 0 {
            chunk.places = None;
            self.places -= CHUNK;
        }
        self.len -= 1;
        Some(what)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (MethodId, &T)> {
        let chunks = self.chunks.iter().filter_map(|chunk| chunk.places.as_ref());
        let all = chunks.flat_map(|places| places.iter().flatten());
        all.map(|(id, what)| (*id, what))
    }

    /// One after the other, so that each can be dropped by itself.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        let chunks = self.chunks.into_iter().filter_map(|chunk| chunk.places);
        let all = chunks.flat_map(|places| (places as Box<[_]>).into_iter().flatten());
        all.map(|(_, what)| what)
    }
}

impl<T> Index<MethodId> for ByMethod<T> {
    type Output = T;

    fn index(&self, id: MethodId) -> &T {
        self.get(id).expect("it has one")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::method::id_of;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_standard_map(ops in prop::collection::vec((any::<bool>(), 0u32..300, 0u64..3), 1..1000)) {
            let mut table = ByMethod::default();
            let mut model: HashMap<MethodId, usize> = HashMap::new();
            // Who has each cell.
            let mut owners: HashMap<u32, MethodId> = HashMap::new();
            for (i, (put, cell, born)) in ops.into_iter().enumerate() {
                let id = id_of(born, cell);
                if put {
                    if let Some(owner) = owners.insert(cell, id) {
                        prop_assert_eq!(table.remove(owner), model.remove(&owner));
                    }
                    table.insert(id, i);
                    model.insert(id, i);
                } else {
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                    if owners.get(&cell) == Some(&id) {
                        owners.remove(&cell);
                    }
                }
                prop_assert_eq!(table.get(id), model.get(&id));
                prop_assert_eq!(table.len(), model.len());
            }
            let all: HashMap<MethodId, usize> = table.iter().map(|(id, what)| (id, *what)).collect();
            prop_assert_eq!(&all, &model);
            let mut left: Vec<usize> = table.into_values().collect();
            let mut expected: Vec<usize> = model.into_values().collect();
            left.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }

    #[test]
    fn what_is_empty_takes_nothing() {
        let mut table = ByMethod::default();
        (0..1000).for_each(|cell| table.insert(id_of(7, cell), ()));
        (0..1000).for_each(|cell| assert_eq!(table.remove(id_of(7, cell)), Some(())));
        assert!(table.chunks.iter().all(|chunk| chunk.places.is_none()));
        assert_eq!(table.places, 0);
    }
}
