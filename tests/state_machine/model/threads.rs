//! Participants: what their threads are inside of, from the outside inwards.

use crate::support::synthetic::Code;

/// A bare pointer to a method's code, and the generation that this is in.
pub type Pointer = (Code, u64);

/// Where a thread takes commands.
#[derive(Clone, Debug)]
pub enum Kind {
    /// In its own loop.
    Own,
    /// Inside of a method, in the host function that this has called.
    Method(Pointer),
    /// In a `blocking`.
    Blocking,
}

/// A place, and what is on the stack there.
#[derive(Clone, Debug)]
pub struct Place {
    pub kind: Kind,
    pub guards: usize,
    pub held: Vec<Pointer>,
}

#[derive(Clone, Debug)]
pub struct Participant {
    /// From the outermost one on; there is always one.
    pub places: Vec<Place>,
    /// The pin's number, if it is pinned: a new one whenever that may have been renewed.
    pub pin: Option<u64>,
}

impl Place {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            guards: 0,
            held: Vec::new(),
        }
    }
}

impl Default for Participant {
    fn default() -> Self {
        Self {
            places: vec![Place::new(Kind::Own)],
            pin: None,
        }
    }
}

impl Participant {
    pub fn here(&self) -> &Place {
        self.places.last().expect("there is always one")
    }

    pub fn here_mut(&mut self) -> &mut Place {
        self.places.last_mut().expect("there is always one")
    }

    pub fn depth(&self) -> usize {
        self.places.len() - 1
    }

    pub fn go_in(&mut self, kind: Kind) {
        self.places.push(Place::new(kind));
    }

    /// Guards since the innermost `blocking` began: while there are any it is pinned.
    pub fn guards(&self) -> usize {
        let mut guards = 0;
        for place in self.places.iter().rev() {
            guards += place.guards;
            if matches!(place.kind, Kind::Blocking) {
                break;
            }
        }
        guards
    }

    /// Whether it has one guard only, made where it is.
    pub fn is_alone(&self) -> bool {
        self.guards() == 1 && self.here().guards == 1
    }

    /// Generations that it has frames in, or pointers to.
    pub fn needs(&self) -> impl Iterator<Item = u64> + '_ {
        self.places.iter().flat_map(|place| {
            let frame = match place.kind {
                Kind::Method((_, generation)) => Some(generation),
                _ => None,
            };
            let held = place.held.iter().map(|&(_, generation)| generation);
            held.chain(frame)
        })
    }
}
