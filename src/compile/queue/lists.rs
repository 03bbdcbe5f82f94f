//! In which order requests are taken.
//!
//! A method that somebody waits for goes before all that are only wished for; among these, one that has no code
//! yet before one that is to be promoted, and then one that was asked for more often. Levels are FIFO lists of numbers. What changes its level gets a new
//! number in another list; the old one stands for nothing then, and is skipped where it is met, so
//! that nothing is ever searched for. Now and then a batch is made of what has been here longest,
//! whatever its level, so that nothing waits for ever.

use std::collections::{HashMap, VecDeque};

/// What is compiled together: a batch has one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class {
    pub(crate) tier: u8,
    pub(crate) group: u64,
}

/// Levels: of wishes, by the logarithm of how often they were asked for, and the one of what is
/// waited for.
const LEVELS: usize = 8;
const WAITED_FOR: usize = LEVELS - 1;

/// One batch of so many is of what has been here longest.
const TURNS: u32 = 8;
/// A batch is not split among workers into parts smaller than this.
const LEAST_PART: usize = 8;
/// One part in so many of a batch that somebody waits for may be of wishes.
const ALONG: usize = 4;
/// Numbers that stand for nothing and are not yet cleared away, besides one for each that does.
const SPARE: usize = 1024;

/// Cheap, and good enough for the cache's own numbers, which no stranger chooses.
type ById<T> = HashMap<u64, T, crate::sync::QuickHash>;

/// A request.
struct Ticket<T> {
    item: T,
    class: Class,
    level: usize,
    /// Its number in the list of its level.
    place: u64,
    /// When it came.
    since: u64,
    /// How often it was asked for since.
    asked: u32,
}

/// Numbers, each with whose it is.
type List = VecDeque<(u64, u64)>;

/// The lists of one class.
struct OfClass {
    class: Class,
    /// Requests, and the part of them that is waited for.
    requests: usize,
    waited_for: usize,
    levels: [List; LEVELS],
    /// All, as they came.
    ages: List,
}

/// Requests by priority; `T` is what is to be compiled.
pub(super) struct Lists<T> {
    tickets: ById<Ticket<T>>,
    /// Nearly always few: their number is bounded by the settings.
    classes: Vec<OfClass>,
    next: u64,
    /// Numbers in all lists.
    numbers: usize,
    turn: u32,
}

impl<T> Lists<T> {
    pub(super) fn new() -> Self {
        Self {
            tickets: ById::default(),
            classes: Vec::new(),
            next: 0,
            numbers: 0,
            turn: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// A new request. (One that is here already becomes more urgent at most.)
    pub(super) fn push(&mut self, id: u64, item: T, class: Class, waited_for: bool) {
        if self.tickets.contains_key(&id) {
            if waited_for {
                self.raise(id);
            }
            return;
        }
        let level = if waited_for { WAITED_FOR } else { 0 };
        self.next += 1;
        let number = self.next;
        let lists = self.lists_of(class);
        lists.requests += 1;
        lists.waited_for += usize::from(waited_for);
        lists.levels[level].push_back((number, id));
        lists.ages.push_back((number, id));
        self.numbers += 2;
        let ticket = Ticket {
            item,
            class,
            level,
            place: number,
            since: number,
            asked: 1,
        };
        self.tickets.insert(id, ticket);
        self.clear_away();
    }

    /// It is asked for once more. False if it is not here.
    pub(super) fn ask(&mut self, id: u64) -> bool {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return false;
        };
        ticket.asked = ticket.asked.saturating_add(1);
        let level = ticket.level.max(level_of(ticket.asked));
        self.move_to(id, level);
        true
    }

    /// Somebody waits for it now. False if it is not here.
    pub(super) fn raise(&mut self, id: u64) -> bool {
        let here = self.tickets.contains_key(&id);
        if here {
            self.move_to(id, WAITED_FOR);
        }
        here
    }

    /// Takes one out, wherever it is.
    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let item = self.take_out(id);
        self.clear_away();
        item
    }

    /// Takes out the oldest of those that nobody waits for, and that were asked for once.
    pub(super) fn take_coldest(&mut self) -> Option<(Class, T)> {
        let mut coldest: Option<(u64, u64)> = None;
        for lists in &mut self.classes {
            let list = &mut lists.levels[0];
            if let Some(first) = front(list, &self.tickets, &mut self.numbers, |t| t.place)
                && coldest.is_none_or(|known| first < known)
            {
                coldest = Some(first);
            }
        }
        let (_, id) = coldest?;
        let class = self.tickets.get(&id)?.class;
        Some((class, self.remove(id)?))
    }

    /// Bytes of the heap that the lists take, as they are and not as they are used; but for what they list.
    pub(super) fn bytes(&self) -> usize {
        // A table has room for seven eighths of its places, and a byte more for each.
        let places = self.tickets.capacity().div_ceil(7) * 8;
        let table = places * (size_of::<(u64, Ticket<T>)>() + 1);
        let numbers = |class: &OfClass| {
            let lists = class.levels.iter().chain([&class.ages]);
            lists.map(VecDeque::capacity).sum::<usize>()
        };
        let numbers: usize = self.classes.iter().map(numbers).sum();
        let classes = self.classes.capacity() * size_of::<OfClass>();
        table + numbers * size_of::<(u64, u64)>() + classes
    }

    /// Takes all.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let all = std::mem::replace(self, Self::new());
        let mut all: Vec<_> = all.tickets.into_values().collect();
        all.sort_unstable_by_key(|ticket| ticket.since);
        all.into_iter().map(|ticket| ticket.item).collect()
    }

    /// Takes what is to be compiled next, together: up to `limit`, and, where more than one worker
    /// takes, a part of what is here for each.
    pub(super) fn take(&mut self, limit: usize, workers: usize) -> Option<(Class, Vec<T>)> {
        let batch = self.choose(limit, workers);
        self.clear_away();
        batch
    }

    fn choose(&mut self, limit: usize, workers: usize) -> Option<(Class, Vec<T>)> {
        self.turn = (self.turn + 1) % TURNS;
        let oldest = self.turn == 0;
        let chosen = if oldest {
            self.class_of_the_oldest()
        } else {
            self.class_of_the_first()
        }?;
        let lists = &self.classes[chosen];
        let (class, waited_for) = (lists.class, lists.waited_for);
        let wishes = lists.requests - waited_for;
        let part = |n: usize| {
            let part = n.div_ceil(workers.max(1)).max(LEAST_PART.min(n));
            part.min(limit)
        };
        let mut batch = Vec::new();
        if oldest {
            let anybody_waits = self.classes.iter().any(|lists| lists.waited_for > 0);
            let most = if anybody_waits {
                limit.div_ceil(ALONG)
            } else {
                limit
            };
            let most = part(waited_for + wishes).min(most);
            while batch.len() < most
                && let Some(item) = self.take_oldest(chosen)
            {
                batch.push(item);
            }
            return Some((class, batch));
        }
        let (first, along) = if waited_for > 0 {
            let first = part(waited_for);
            let along = part(wishes).min(limit.div_ceil(ALONG)).min(limit - first);
            (first, along)
        } else {
            (0, part(wishes))
        };
        for level in (0..LEVELS).rev() {
            let most = if level == WAITED_FOR {
                first
            } else {
                first + along
            };
            while batch.len() < most
                && let Some(item) = self.take_from(chosen, level)
            {
                batch.push(item);
            }
        }
        Some((class, batch))
    }

    fn lists_of(&mut self, class: Class) -> &mut OfClass {
        let known = self.classes.iter().position(|lists| lists.class == class);
        let place = known.unwrap_or_else(|| {
            self.classes.push(OfClass {
                class,
                requests: 0,
                waited_for: 0,
                levels: std::array::from_fn(|_| List::new()),
                ages: List::new(),
            });
            self.classes.len() - 1
        });
        &mut self.classes[place]
    }

    /// Upwards, or nowhere.
    fn move_to(&mut self, id: u64, level: usize) {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return;
        };
        if level <= ticket.level {
            return;
        }
        self.next += 1;
        (ticket.level, ticket.place) = (level, self.next);
        let (class, number) = (ticket.class, self.next);
        let lists = self.lists_of(class);
        lists.waited_for += usize::from(level == WAITED_FOR);
        lists.levels[level].push_back((number, id));
        self.numbers += 1;
        self.clear_away();
    }

    /// Its numbers stand for nothing from now on.
    fn take_out(&mut self, id: u64) -> Option<T> {
        let ticket = self.tickets.remove(&id)?;
        let lists = self.lists_of(ticket.class);
        lists.requests -= 1;
        lists.waited_for -= usize::from(ticket.level == WAITED_FOR);
        Some(ticket.item)
    }

    /// The class of what is most urgent, and has been so for longest.
    fn class_of_the_first(&mut self) -> Option<usize> {
        let mut best: Option<((bool, bool, usize), u64, usize)> = None;
        for i in 0..self.classes.len() {
            let is_first_code = self.classes[i].class.tier == 0;
            let first = (0..LEVELS).rev().find_map(|level| {
                let list = &mut self.classes[i].levels[level];
                let place = front(list, &self.tickets, &mut self.numbers, |t| t.place)?.0;
                Some((level, place))
            });
            if let Some((level, place)) = first {
                // What has no code yet is worth more than what has.
                let rank = (level == WAITED_FOR, is_first_code, level);
                if best.is_none_or(|(r, p, _)| rank > r || (rank == r && place < p)) {
                    best = Some((rank, place, i));
                }
            }
        }
        best.map(|(.., i)| i)
    }

    fn class_of_the_oldest(&mut self) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for i in 0..self.classes.len() {
            let ages = &mut self.classes[i].ages;
            if let Some((since, _)) = front(ages, &self.tickets, &mut self.numbers, |t| t.since)
                && best.is_none_or(|(s, _)| since < s)
            {
                best = Some((since, i));
            }
        }
        best.map(|(_, i)| i)
    }

    fn take_from(&mut self, class: usize, level: usize) -> Option<T> {
        let list = &mut self.classes[class].levels[level];
        let (_, id) = front(list, &self.tickets, &mut self.numbers, |t| t.place)?;
        self.take_out(id)
    }

    fn take_oldest(&mut self, class: usize) -> Option<T> {
        let ages = &mut self.classes[class].ages;
        let (_, id) = front(ages, &self.tickets, &mut self.numbers, |t| t.since)?;
        self.take_out(id)
    }

    /// When most numbers stand for nothing, they go, and so does the room that a burst of requests took. Each was put
    /// there by somebody, so that costs little for each.
    fn clear_away(&mut self) {
        let len = self.tickets.len();
        let roomy = self.tickets.capacity() > 8 * len + SPARE;
        // Each request has a number in two lists.
        if self.numbers <= 4 * len + SPARE && !roomy {
            return;
        }
        let tickets = &self.tickets;
        for lists in &mut self.classes {
            for list in &mut lists.levels {
                list.retain(|&(n, id)| tickets.get(&id).is_some_and(|t| t.place == n));
            }
            let ages = &mut lists.ages;
            ages.retain(|&(n, id)| tickets.get(&id).is_some_and(|t| t.since == n));
        }
        self.classes.retain(|lists| lists.requests > 0);
        self.numbers = 2 * len;
        if roomy {
            self.tickets.shrink_to(2 * len);
            for lists in &mut self.classes {
                let all = lists.levels.iter_mut().chain([&mut lists.ages]);
                all.for_each(|list| list.shrink_to(2 * list.len()));
            }
        }
    }
}

/// The first number of a list that stands for something.
fn front<T>(
    list: &mut List,
    tickets: &ById<Ticket<T>>,
    numbers: &mut usize,
    number: impl Fn(&Ticket<T>) -> u64,
) -> Option<(u64, u64)> {
    while let Some(&(n, id)) = list.front() {
        if tickets.get(&id).is_some_and(|ticket| number(ticket) == n) {
            return Some((n, id));
        }
        list.pop_front();
        *numbers -= 1;
    }
    None
}

/// The level of what was asked for so often: 1, 2, 4, ... 64 times.
fn level_of(asked: u32) -> usize {
    (asked.max(1).ilog2() as usize).min(WAITED_FOR - 1)
}

#[cfg(test)]
impl<T> Lists<T> {
    pub(super) fn numbers(&self) -> usize {
        self.numbers
    }
}
