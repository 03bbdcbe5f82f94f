//! The executable memory of one generation: where its batches are placed, linked and registered.
//!
//! ```text
//! text       | batch 1 | batch 2 | ...              runs of slots, packed
//! constants  | batch 1 | batch 2 | ...
//! unwind     | batch 1 | batch 2 | ...
//! data       (nearly always none)
//! ```
//!
//! A batch's unwind table is registered before its methods are published, and deregistered before
//! its text is unmapped. When the generation is sealed the tables of all batches in a run of text
//! are registered as one, and then the parts are taken out (see [`crate::link::unwind`]).

use std::cell::RefCell;
use std::mem;
use std::ops::Range;

use crate::code::{CodeSpace, Kind, PAGE, Run};
use crate::error::{Error, LinkError, MapStep};
use crate::link::unwind::{self, Registered};
use crate::link::{self, LinkedFunction, Needs, Object, Place, Recipe, Span, Used};
use crate::reclaim::{Holds, Owner};

/// Bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) text: u64,
    pub(crate) constants: u64,
    pub(crate) data: u64,
    pub(crate) unwind: u64,
}

impl Sizes {
    /// What `code_budget` limits.
    pub(crate) fn code(&self) -> u64 {
        self.text + self.constants + self.data
    }

    pub(crate) fn plus(self, more: Sizes) -> Sizes {
        Sizes {
            text: self.text + more.text,
            constants: self.constants + more.constants,
            data: self.data + more.data,
            unwind: self.unwind + more.unwind,
        }
    }
}

/// Runs of one kind, filled one after the other.
struct Area {
    kind: Kind,
    runs: Vec<Run>,
    /// Bytes used of the last run.
    used: u64,
}

/// The unwind tables of code in one run of text. Between two runs other generations may have
/// theirs, and a table of both would stand in front of those: libgcc asks only the table whose
/// code begins nearest below an address.
struct Series {
    /// The address of that run.
    text: u64,
    /// The tables, by ascending address of code: each registered by itself until they are one.
    /// What libgcc noted of them stays as long as the code.
    parts: Vec<Registered>,
    /// The tables, registered as one.
    whole: Option<Registered>,
}

/// A generation's memory. To be released by [`Region::release`] before the reservation goes: the
/// tables of one that is dropped without stay registered.
pub(crate) struct Region {
    text: Area,
    constants: Area,
    data: Area,
    unwind: Area,
    /// What is registered, oldest first.
    tables: Vec<Series>,
    /// Bytes of sections that were linked in.
    section_bytes: u64,
    /// What stands beside its slots, so that it can be held. `None` while it has none, and once it
    /// is closed.
    owner: Option<Owner>,
}

/// A batch that was linked in.
pub(crate) struct Added {
    pub(crate) functions: Vec<LinkedFunction>,
    /// Functions that could not be linked, by name.
    pub(crate) failed: Vec<(String, LinkError)>,
    /// Bytes of the batch's sections.
    pub(crate) bytes: u64,
    /// Where its constants are, and its data.
    pub(crate) data: [Range<u64>; 2],
}

/// Functions that were linked in again.
pub(crate) struct Taken {
    /// In the order of their recipes, without names; `None` for one that cannot be where it would come to lie.
    pub(crate) functions: Vec<Option<LinkedFunction>>,
    /// Where their constants are; the second is empty.
    pub(crate) data: [Range<u64>; 2],
}

/// Where in the last runs a batch begins.
struct Offsets {
    text: u64,
    constants: u64,
    data: u64,
    unwind: u64,
}

/// Why a batch was not added.
pub(crate) enum Failure {
    /// The object cannot be linked anywhere.
    Link(LinkError),
    /// No memory.
    Memory(Error),
}

/// Memory to link in, until it is dropped: mostly what the last batch of this thread was linked in.
struct Room(Vec<u8>);

impl Room {
    /// As much as this is kept for the next batch.
    const KEPT: usize = 128 << 10;

    /// Room for a batch at least, which holds anything.
    fn take(needs: &Needs) -> Result<Self, Failure> {
        let all = [&needs.text, &needs.constants, &needs.data, &needs.unwind];
        let size: u64 = all.iter().map(|need| need.size).sum();
        let mut bytes = ROOM.try_with(RefCell::take).unwrap_or_default();
        let more = (size as usize).saturating_sub(bytes.len());
        let refused = |error: std::collections::TryReserveError| {
            let error = std::io::Error::other(error);
            Failure::Memory(Error::map(MapStep::Write, size, error))
        };
        bytes.try_reserve_exact(more).map_err(refused)?;
        bytes.resize(bytes.len() + more, 0);
        Ok(Self(bytes))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        if bytes.capacity() <= Self::KEPT {
            // Not where the thread is ending.
            let _ = ROOM.try_with(|room| room.replace(bytes));
        }
    }
}

thread_local! {
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The first offset in a run from `used` on whose address is a multiple of `align`.
fn aligned(run: &Run, used: u64, align: u64) -> u64 {
    (run.address + used).next_multiple_of(align) - run.address
}

/// What a new run must be longer by, as it begins at a page, and may have to begin further on.
fn slack(align: u64) -> u64 {
    align.saturating_sub(PAGE)
}

impl Area {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            runs: Vec::new(),
            used: 0,
        }
    }

    /// Finds `size` bytes: behind what is used of the last run, in a longer last run, or in a new
    /// one. Returns the offset in the last run.
    fn reserve(&mut self, space: &CodeSpace, size: u64, align: u64) -> Result<u64, Failure> {
        if size == 0 {
            return Ok(self.used);
        }
        if let Some(run) = self.runs.last_mut() {
            let offset = aligned(run, self.used, align);
            if offset + size <= run.len || space.extend(run, offset + size) {
                return Ok(offset);
            }
        }
        let run = space.take(self.kind, size + slack(align));
        let run = run.map_err(Failure::Memory)?;
        let offset = aligned(&run, 0, align);
        self.runs.push(run);
        self.used = 0;
        Ok(offset)
    }

    fn growth(&self, space: &CodeSpace, size: u64, align: u64) -> u64 {
        match self.runs.last() {
            _ if size == 0 => 0,
            Some(run) if aligned(run, self.used, align) + size <= run.len => 0,
            _ => space.slots_for(self.kind, size + slack(align)),
        }
    }

    /// The address of an offset in the last run.
    fn address(&self, offset: u64) -> u64 {
        self.runs.last().map_or(0, |run| run.address + offset)
    }

    /// Writes what was reserved.
    fn write(&mut self, space: &CodeSpace, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        match self.runs.last_mut() {
            Some(run) if !bytes.is_empty() => {
                space.write(run, offset, bytes).map_err(Failure::Memory)
            }
            _ => Ok(()),
        }
    }

    fn mapped(&self) -> u64 {
        self.runs.iter().map(|r| r.len).sum()
    }

    fn resident(&self) -> u64 {
        self.runs.iter().map(Run::resident).sum()
    }
}

impl Region {
    pub(crate) fn new() -> Self {
        Self {
            text: Area::new(Kind::Text),
            constants: Area::new(Kind::Constants),
            data: Area::new(Kind::Data),
            unwind: Area::new(Kind::Unwind),
            tables: Vec::new(),
            section_bytes: 0,
            owner: None,
        }
    }

    /// Bytes by kind that adding an object would map, at most.
    pub(crate) fn growth(&self, space: &CodeSpace, object: &Object<'_>) -> Sizes {
        self.growth_by(space, object.needs())
    }

    /// Bytes by kind that [taking over](Region::take_over) functions would map, at most.
    pub(crate) fn growth_for(&self, space: &CodeSpace, recipes: &[&Recipe]) -> Sizes {
        // What cannot be laid out is not taken over either.
        let needs = link::needs_of(recipes).unwrap_or_default();
        self.growth_by(space, &needs)
    }

    fn growth_by(&self, space: &CodeSpace, needs: &Needs) -> Sizes {
        let growth = |area: &Area, need: &link::Area| area.growth(space, need.size, need.align);
        Sizes {
            text: growth(&self.text, &needs.text),
            constants: growth(&self.constants, &needs.constants),
            data: growth(&self.data, &needs.data),
            unwind: growth(&self.unwind, &needs.unwind),
        }
    }

    /// Links an object in, at the end. On error the region is as it was. `keep`: functions come with
    /// their recipes.
    pub(crate) fn add(
        &mut self,
        space: &CodeSpace,
        holds: &Holds,
        object: &Object<'_>,
        resolve: &mut dyn FnMut(&str) -> Option<u64>,
        keep: bool,
    ) -> Result<Added, Failure> {
        let (at, linked) = self.fill(space, holds, object.needs(), |place| {
            link::link(object, place, resolve, keep)
        })?;
        let bytes = object.section_bytes();
        Ok(Added {
            functions: linked.functions,
            failed: linked.failed,
            bytes,
            data: self.settle(at, linked.used, linked.unwind, bytes),
        })
    }

    /// Links functions in again that are in another region. On error the region is as it was.
    pub(crate) fn take_over(
        &mut self,
        space: &CodeSpace,
        holds: &Holds,
        recipes: &[&Recipe],
        from: &Region,
    ) -> Result<Taken, Failure> {
        let needs = link::needs_of(recipes).map_err(Failure::Link)?;
        let read = |address, len| from.bytes_at(address, len);
        let (at, linked) = self.fill(space, holds, &needs, |place| {
            link::relink(recipes, &read, place)
        })?;
        Ok(Taken {
            functions: linked.functions.into_iter().map(Result::ok).collect(),
            data: self.settle(at, linked.used, linked.unwind, linked.bytes),
        })
    }

    /// What is linked at an address, and never written again: a part that a recipe names.
    fn bytes_at(&self, address: u64, len: u64) -> Option<&[u8]> {
        let areas = [&self.text, &self.constants, &self.data, &self.unwind];
        let mut runs = areas.into_iter().flat_map(|area| &area.runs);
        let inside = |run: &&Run| {
            let end = address.checked_add(len);
            run.address <= address && end.is_some_and(|end| end <= run.address + run.len)
        };
        runs.find(inside)?;
        // SAFETY: these bytes of a run are mapped and can be read for as long as the region has it. What was
        // linked is written no more but for data, of which recipes name only what nothing writes.
        Some(unsafe { std::slice::from_raw_parts(address as *const u8, len as usize) })
    }

    /// Reserves memory, and has it filled.
    fn fill<R>(
        &mut self,
        space: &CodeSpace,
        holds: &Holds,
        needs: &Needs,
        link: impl FnOnce(Place<'_>) -> Result<R, LinkError>,
    ) -> Result<(Offsets, R), Failure> {
        let reserve =
            |area: &mut Area, need: &link::Area| area.reserve(space, need.size, need.align);
        let unwind = reserve(&mut self.unwind, &needs.unwind)?;
        let at = Offsets {
            text: reserve(&mut self.text, &needs.text)?,
            constants: reserve(&mut self.constants, &needs.constants)?,
            data: reserve(&mut self.data, &needs.data)?,
            unwind,
        };
        // Before anybody can be inside.
        for area in [&self.text, &self.constants, &self.data] {
            if let Some(run) = area.runs.last() {
                holds.own(&mut self.owner, run.kind, run.address, run.len);
            }
        }
        // Linked in memory of the worker's own, and written from there.
        let mut room = Room::take(needs)?;
        let mut rest = &mut room.0[..];
        let mut span = |area: &Area, at: u64, need: &link::Area| {
            let (bytes, after) = mem::take(&mut rest).split_at_mut(need.size as usize);
            rest = after;
            let address = area.address(at);
            Span { address, bytes }
        };
        let linked = link(Place {
            text: span(&self.text, at.text, &needs.text),
            constants: span(&self.constants, at.constants, &needs.constants),
            data: span(&self.data, at.data, &needs.data),
            unwind: span(&self.unwind, at.unwind, &needs.unwind),
        });
        let linked = linked.map_err(Failure::Link)?;
        let mut rest = &room.0[..];
        for (area, at, need) in [
            (&mut self.text, at.text, &needs.text),
            (&mut self.constants, at.constants, &needs.constants),
            (&mut self.data, at.data, &needs.data),
            (&mut self.unwind, at.unwind, &needs.unwind),
        ] {
            let (bytes, after) = rest.split_at(need.size as usize);
            rest = after;
            area.write(space, at, bytes)?;
        }
        Ok((at, linked))
    }

    /// What was filled is in use from now on, and its unwind table registered. Returns where its constants are, and
    /// its data.
    fn settle(
        &mut self,
        at: Offsets,
        used: Used,
        table: Option<u64>,
        bytes: u64,
    ) -> [Range<u64>; 2] {
        let text_run = self.text.runs.last().map_or(0, |run| run.address);
        self.text.used = at.text + used.text;
        self.constants.used = at.constants + used.constants;
        self.data.used = at.data + used.data;
        if let Some(table) = table {
            self.unwind.used = at.unwind + used.unwind;
            if self.tables.last().is_none_or(|s| s.text != text_run) {
                self.tables.push(Series {
                    text: text_run,
                    parts: Vec::new(),
                    whole: None,
                });
            }
            // SAFETY: the linker validated the table and ended it; it stays mapped, and is not
            // written again, until `release` has deregistered it.
            let part = unsafe { unwind::register(table) };
            let series = self.tables.last_mut().expect("this one, or one before");
            series.parts.push(part);
        }
        self.section_bytes += bytes;
        let placed = |area: &Area, at: u64, size: u64| {
            let begin = area.runs.last().map_or(0, |run| run.address + at);
            begin..begin + size
        };
        [
            placed(&self.constants, at.constants, used.constants),
            placed(&self.data, at.data, used.data),
        ]
    }

    /// No more batches: makes one unwind table of the batches' tables, for each run of text.
    pub(crate) fn seal(&mut self) {
        for series in self.tables.iter_mut().filter(|s| s.parts.len() > 1) {
            // SAFETY: the parts are registered, nobody else's code lies between theirs, and all
            // of them stay as they are until `release`.
            series.whole = unsafe { unwind::replace(&mut series.parts) };
        }
    }

    /// Lets nobody hold it any more. False while somebody does.
    pub(crate) fn close(&mut self, holds: &Holds) -> bool {
        let Some(owner) = self.owner else {
            return true;
        };
        if !holds.close(owner) {
            return false;
        }
        for area in [&self.text, &self.constants, &self.data] {
            for run in &area.runs {
                holds.disown(run.kind, run.address, run.len);
            }
        }
        holds.give_back(owner);
        self.owner = None;
        true
    }

    /// Gives all memory back. What could not be unmapped stays in the region, for another try.
    ///
    /// # Safety
    /// No thread is inside, or can reach, any of its code: it was closed, after a grace period
    /// without a method of it that is linked.
    pub(crate) unsafe fn release(&mut self, space: &CodeSpace) -> Result<(), Error> {
        // Newest first: libgcc searches from there, and the other order would be quadratic.
        for series in self.tables.drain(..).rev() {
            // SAFETY: registered by `add` or `seal`, and not deregistered since; no thread is in
            // the code.
            unsafe {
                if let Some(mut whole) = series.whole {
                    whole.deregister();
                }
                for mut part in series.parts.into_iter().rev() {
                    part.deregister();
                }
            }
        }
        let mut outcome = Ok(());
        for area in [
            &mut self.text,
            &mut self.constants,
            &mut self.data,
            &mut self.unwind,
        ] {
            for run in mem::take(&mut area.runs) {
                // SAFETY: the caller's promise.
                if let Err(refused) = unsafe { space.release(run) } {
                    let (run, error) = *refused;
                    area.runs.push(run);
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Bytes of slots, by kind: what the budget is charged.
    pub(crate) fn mapped(&self) -> Sizes {
        Sizes {
            text: self.text.mapped(),
            constants: self.constants.mapped(),
            data: self.data.mapped(),
            unwind: self.unwind.mapped(),
        }
    }

    /// Bytes of pages that were written, and of the sections in them.
    pub(crate) fn density(&self) -> (u64, u64) {
        let areas = [&self.text, &self.constants, &self.data, &self.unwind];
        (areas.iter().map(|a| a.resident()).sum(), self.section_bytes)
    }
}
