//! Linking functions again, from their recipes.

use std::collections::HashMap;

use super::super::apply::{check, prefix, write};
use super::super::error::LinkError;
use super::super::frames::Frames;
use super::super::sections::{Home, Layout};
use super::super::x86_64::{self, Fault, SLOT, STUB, Site, Tables, Target, Wants};
use super::super::{LinkedFunction, Needs, Place, Span, Used, unwind};
use super::Recipe;
use super::format::{Fix, Goal, Part, Plan};

/// What became of functions that were linked again.
pub(crate) struct Relinked {
    /// One for each recipe, without a name. A function that failed may be out of reach of something at the new
    /// place; it can be compiled again.
    pub(crate) functions: Vec<Result<LinkedFunction, LinkError>>,
    /// Where the unwind table starts; `None` if there is nothing to register.
    pub(crate) unwind: Option<u64>,
    pub(crate) used: Used,
    /// Bytes of parts, without what lies between them.
    pub(crate) bytes: u64,
}

/// What linking again takes at most.
pub(crate) fn needs_of(recipes: &[&Recipe]) -> Result<Needs, LinkError> {
    let plans: Vec<Plan> = recipes.iter().map(|recipe| Plan::decode(recipe)).collect();
    Ok(Plot::of(&plans)?.needs)
}

/// Links functions again, into a place with as much room as [`needs_of`] says.
///
/// `read` says what stands at an address now: it is asked for the parts of each function.
///
/// # Errors
/// What concerns single functions is in [`Relinked::functions`]. Errors concern all of them: nothing may be used.
pub(crate) fn relink<'r>(
    recipes: &[&Recipe],
    read: &dyn Fn(u64, u64) -> Option<&'r [u8]>,
    mut place: Place<'_>,
) -> Result<Relinked, LinkError> {
    let plans: Vec<Plan> = recipes.iter().map(|recipe| Plan::decode(recipe)).collect();
    let plot = Plot::of(&plans)?;
    let needs = &plot.needs;
    check("text", &needs.text, &place.text)?;
    check("constants", &needs.constants, &place.constants)?;
    check("data", &needs.data, &place.data)?;
    check("unwind", &needs.unwind, &place.unwind)?;
    prefix(&mut place.text, &needs.text).fill(x86_64::TRAP);
    prefix(&mut place.constants, &needs.constants).fill(0);
    prefix(&mut place.unwind, &needs.unwind).fill(0);
    let mut mover = Mover {
        place,
        plot: &plot,
        read,
        slots: HashMap::new(),
        stubs: HashMap::new(),
        unwind: 0,
        commons: Vec::new(),
        recipe: Vec::new(),
    };
    let mut bytes = 0;
    let mut functions = Vec::with_capacity(plans.len());
    for (plan, offsets) in plans.into_iter().zip(&plot.offsets) {
        let parts: u64 = plan.parts.iter().map(|part| part.size).sum();
        let moved = mover.take(plan, offsets);
        bytes += if moved.is_ok() { parts } else { 0 };
        functions.push(moved);
    }
    mover.finish(functions, bytes)
}

/// Where everything comes to lie but for unwind records, which follow each other.
struct Plot {
    needs: Needs,
    /// By function and part.
    offsets: Vec<Vec<u64>>,
    /// Where code ends and padding begins.
    code_end: u64,
    stubs_at: u64,
    got_at: u64,
}

impl Plot {
    fn of(plans: &[Plan]) -> Result<Self, LinkError> {
        let mut layout = Layout::default();
        let mut offsets = Vec::with_capacity(plans.len());
        let (mut slots, mut stubs) = (0, 0);
        for plan in plans {
            let place = |part: &Part| {
                let area = match part.home {
                    Home::Text => &mut layout.text,
                    Home::Constants => &mut layout.constants,
                    _ => &mut layout.unwind,
                };
                area.grow(part.size, part.align)
            };
            let places: Result<Vec<u64>, _> = plan.parts.iter().map(place).collect();
            offsets.push(places?);
            let (own_slots, own_stubs) = count_tables(plan);
            slots += own_slots;
            stubs += own_stubs;
        }
        let code_end = layout.text.size;
        let (mut stubs_at, mut got_at) = (0, layout.constants.size);
        if code_end > 0 {
            // As in an object: a return address is inside.
            layout.text.grow(1, 1)?;
            stubs_at = layout.text.grow(stubs * STUB, x86_64::CODE_ALIGN)?;
        }
        if slots > 0 {
            got_at = layout.constants.grow(slots * SLOT, SLOT)?;
        }
        if layout.unwind.size > 0 {
            layout.unwind.grow(unwind::END as u64, unwind::ALIGN)?;
        }
        Ok(Self {
            needs: Needs {
                text: layout.text,
                constants: layout.constants,
                data: layout.data,
                unwind: layout.unwind,
            },
            offsets,
            code_end,
            stubs_at,
            got_at,
        })
    }
}

/// How many GOT slots and stubs a function can have at most.
fn count_tables(plan: &Plan) -> (u64, u64) {
    let mut wanted: HashMap<Goal, (bool, bool)> = HashMap::new();
    for fix in &plan.fixes {
        match x86_64::wants(&site(fix, 0)) {
            Wants::Slot => wanted.entry(fix.target).or_default().0 = true,
            Wants::Stub if matches!(fix.target, Goal::Outside(_)) => {
                *wanted.entry(fix.target).or_default() = (true, true);
            }
            _ => {}
        }
    }
    let slots = wanted.len() as u64;
    let stubs = wanted.values().filter(|(_, stub)| *stub).count() as u64;
    (slots, stubs)
}

/// A fix in its surroundings.
fn site(fix: &Fix, address: u64) -> Site<'_> {
    Site {
        kind: fix.kind,
        before: fix.before.bytes(),
        place: address.wrapping_add(fix.offset),
        // It has bytes before it only if it is code.
        code: !fix.before.bytes().is_empty(),
        addend: fix.addend,
    }
}

/// Functions on their way.
struct Mover<'m, 'r> {
    place: Place<'m>,
    plot: &'m Plot,
    read: &'m dyn Fn(u64, u64) -> Option<&'r [u8]>,
    /// By what they hold.
    slots: HashMap<u64, u64>,
    /// By where they lead to.
    stubs: HashMap<u64, u64>,
    /// Where the next unwind record comes.
    unwind: u64,
    /// Common records without an address in them: where they are now.
    commons: Vec<(u64, u64)>,
    /// Where recipes are made.
    recipe: Vec<u8>,
}

impl<'r> Mover<'_, 'r> {
    /// Moves one function; if that fails nothing refers to what was written of it.
    fn take(&mut self, mut plan: Plan, offsets: &[u64]) -> Result<LinkedFunction, LinkError> {
        let (unwind, commons) = (self.unwind, self.commons.len());
        let moved = self.move_parts(&mut plan, offsets);
        if let Err(error) = moved {
            self.commons.truncate(commons);
            let end = self.unwind;
            self.unwind = unwind;
            self.place.unwind.bytes[unwind as usize..end as usize].fill(0);
            for (part, &offset) in plan.parts.iter().zip(offsets) {
                if part.home == Home::Text {
                    let end = (offset + part.size) as usize;
                    self.place.text.bytes[offset as usize..end].fill(x86_64::TRAP);
                }
            }
            return Err(error);
        }
        Ok(LinkedFunction {
            name: String::new(),
            address: plan.parts[0].address.wrapping_add(plan.entry),
            size: plan.size,
            recipe: Some(plan.encode(&mut self.recipe)),
        })
    }

    /// Copies the parts, writes the fields, and gives the parts the addresses that they have now.
    fn move_parts(&mut self, plan: &mut Plan, offsets: &[u64]) -> Result<(), LinkError> {
        let gone = || LinkError::malformed("code that is not where it was linked");
        let mut places = Vec::with_capacity(plan.parts.len());
        for (part, &offset) in plan.parts.iter().zip(offsets) {
            let bytes = (self.read)(part.address, part.size);
            let bytes = bytes.filter(|bytes| bytes.len() as u64 == part.size);
            let bytes = bytes.ok_or_else(gone)?;
            places.push((bytes, offset));
        }
        // Records come as they are needed, those of functions that failed not at all.
        self.place_records(plan, &mut places)?;
        let old: Vec<Part> = plan.parts.clone();
        for (part, &(bytes, offset)) in plan.parts.iter_mut().zip(&places) {
            let span = span(&mut self.place, part.home);
            part.address = span.address.wrapping_add(offset);
            write(span, offset, bytes)?;
        }
        for index in 0..plan.parts.len() {
            if let Some(cie) = plan.parts[index].cie {
                let (at, cie) = (places[index].1, places[cie].1);
                // From the field behind the length back to the common record.
                let back = (at + 4 - cie) as u32;
                write(&mut self.place.unwind, at + 4, &back.to_le_bytes())?;
            }
        }
        for fix in &plan.fixes {
            self.fix(plan, fix, places[fix.part].1)
                .map_err(|fault| explain(fault, fix, &old[fix.part]))?;
        }
        Ok(())
    }

    /// Finds places for unwind records: one of what is the same for several.
    fn place_records(&mut self, plan: &Plan, places: &mut [(&[u8], u64)]) -> Result<(), LinkError> {
        for (index, part) in plan.parts.iter().enumerate() {
            if part.home != Home::Unwind {
                continue;
            }
            let (bytes, offset) = &mut places[index];
            let fixed = plan.fixes.iter().any(|fix| fix.part == index);
            let plain = part.cie.is_none() && !fixed;
            if plain && let Some(same) = self.same_common(bytes) {
                *offset = same;
                continue;
            }
            *offset = self.unwind;
            // Here already, so that it is found by the next.
            write(&mut self.place.unwind, *offset, bytes)?;
            self.unwind += part.size;
            if plain {
                self.commons.push((*offset, part.size));
            }
        }
        Ok(())
    }

    fn same_common(&self, bytes: &[u8]) -> Option<u64> {
        let known = self.commons.iter().find(|&&(offset, size)| {
            let range = offset as usize..(offset + size) as usize;
            self.place.unwind.bytes.get(range) == Some(bytes)
        });
        known.map(|&(offset, _)| offset)
    }

    fn fix(&mut self, plan: &Plan, fix: &Fix, offset: u64) -> Result<(), Fault> {
        let part = &plan.parts[fix.part];
        let address = match fix.target {
            Goal::Own { part, offset } => plan.parts[part].address.wrapping_add(offset),
            Goal::Outside(index) => plan.outside[index],
        };
        let outside = || Fault::Malformed("a field outside of its part");
        let at = offset + fix.offset;
        let before = fix.before.bytes();
        let restored = write(
            span(&mut self.place, part.home),
            at - before.len() as u64,
            before,
        );
        restored.map_err(|_| outside())?;
        let target = Target {
            address,
            size: None,
        };
        let far = matches!(fix.target, Goal::Outside(_));
        let site = site(fix, part.address);
        let patch = x86_64::patch(
            &site,
            &target,
            &mut NewTables {
                mover: self,
                address,
                far,
            },
        )?;
        let patch = patch.ok_or(Fault::Unsupported)?;
        let begin = at - u64::from(patch.back);
        let bytes = &patch.bytes()[..patch.len()];
        write(span(&mut self.place, part.home), begin, bytes).map_err(|_| outside())
    }

    /// Ends the unwind table, and looks at it once more: libgcc relies on what is registered with it.
    fn finish(
        self,
        functions: Vec<Result<LinkedFunction, LinkError>>,
        bytes: u64,
    ) -> Result<Relinked, LinkError> {
        let (text, table) = (self.place.text.address, self.place.unwind.address);
        let code = text..=text.saturating_add(self.plot.code_end);
        let records = &self.place.unwind.bytes[..self.unwind as usize];
        for fde in &Frames::parse(records)?.fdes {
            let start = fde.start(records, table).unwrap_or(text);
            let end = start.checked_add(fde.range);
            if !code.contains(&start) || !end.is_some_and(|end| code.contains(&end)) {
                return Err(LinkError::malformed(
                    ".eh_frame: a record of code that was not moved",
                ));
            }
        }
        let ended = self.unwind.next_multiple_of(unwind::ALIGN) + unwind::END as u64;
        Ok(Relinked {
            functions,
            unwind: (self.unwind > 0).then_some(table),
            used: Used {
                text: match self.plot.code_end {
                    0 => 0,
                    _ => self.plot.stubs_at + self.stubs.len() as u64 * STUB,
                },
                constants: self.plot.got_at + self.slots.len() as u64 * SLOT,
                data: 0,
                unwind: if self.unwind > 0 { ended } else { 0 },
            },
            bytes,
        })
    }
}

fn span<'p, 'm>(place: &'p mut Place<'m>, home: Home) -> &'p mut Span<'m> {
    match home {
        Home::Text => &mut place.text,
        Home::Constants => &mut place.constants,
        _ => &mut place.unwind,
    }
}

/// GOT and stubs of the new place, as one fix sees them.
struct NewTables<'t, 'm, 'r> {
    mover: &'t mut Mover<'m, 'r>,
    address: u64,
    /// Whether the target may lie anywhere.
    far: bool,
}

impl Tables for NewTables<'_, '_, '_> {
    fn got(&self) -> u64 {
        self.mover
            .place
            .constants
            .address
            .wrapping_add(self.mover.plot.got_at)
    }

    fn slot(&mut self) -> Result<u64, Fault> {
        let full = Fault::Malformed("a GOT larger than expected");
        let next = self.mover.slots.len() as u64;
        let index = *self.mover.slots.entry(self.address).or_insert(next);
        let offset = self.mover.plot.got_at + index * SLOT;
        if offset + SLOT > self.mover.plot.needs.constants.size {
            return Err(full);
        }
        write(
            &mut self.mover.place.constants,
            offset,
            &self.address.to_le_bytes(),
        )
        .map_err(|_| full)?;
        Ok(self.mover.place.constants.address.wrapping_add(offset))
    }

    fn stub(&mut self) -> Result<Option<u64>, Fault> {
        if !self.far {
            return Ok(None);
        }
        let slot = self.slot()?;
        let next = self.mover.stubs.len() as u64;
        let index = *self.mover.stubs.entry(self.address).or_insert(next);
        let offset = self.mover.plot.stubs_at + index * STUB;
        let full = Fault::Malformed("more stubs than expected");
        if offset + STUB > self.mover.plot.needs.text.size {
            return Err(full);
        }
        let text = &mut self.mover.place.text;
        let at = text.address.wrapping_add(offset);
        write(text, offset, &x86_64::stub(at, slot)?).map_err(|_| full)?;
        Ok(Some(at))
    }
}

fn explain(fault: Fault, fix: &Fix, part: &Part) -> LinkError {
    let relocation = x86_64::name(fix.kind);
    let at = part.address.wrapping_add(fix.offset);
    match fault {
        Fault::OutOfRange(distance) => LinkError::OutOfRange {
            symbol: format!("what the code at {at:#x} refers to"),
            section: "a moved function".to_owned(),
            relocation,
            distance: distance.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        },
        other => LinkError::malformed(format!("{other:?}: {relocation} at {at:#x}")),
    }
}
