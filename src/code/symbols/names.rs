//! The names of one list, one behind the other in blocks that never move: by itself each would take as much again.

use std::ptr;

/// Bytes of the first block, of the further ones, and of what stands in front of a name.
const FIRST: usize = 256;
const FURTHER: usize = 1024;
const LENGTH: usize = size_of::<u16>();

/// A name in a block: two bytes say how long it is.
#[derive(Clone, Copy)]
pub(super) struct Name(*const u8);

impl Name {
    /// # Safety
    /// The names that it is of are there for as long as the result is used.
    pub(super) unsafe fn get<'a>(self) -> &'a str {
        // SAFETY: `Names::put` wrote the length, and behind it a string of that length, which nobody changes.
        unsafe {
            let len = u16::from_ne_bytes(self.0.cast::<[u8; LENGTH]>().read());
            let bytes = std::slice::from_raw_parts(self.0.add(LENGTH), usize::from(len));
            std::str::from_utf8_unchecked(bytes)
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Names {
    blocks: Vec<*mut [u8]>,
    /// Bytes used of the last.
    used: usize,
}

// SAFETY: the blocks are boxes that this owns.
unsafe impl Send for Names {}

impl Names {
    /// A copy that stays where it is until this is dropped; and the bytes that this grew by.
    pub(super) fn put(&mut self, name: &str) -> (Name, usize) {
        let mut len = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        let (need, mut grown) = (LENGTH + len, 0);
        let room = self.blocks.last().map_or(0, |block| block.len());
        if room - self.used < need {
            let usual = if room == 0 { FIRST } else { FURTHER };
            grown = usual.max(need);
            let block = vec![0; grown].into_boxed_slice();
            self.blocks.push(Box::into_raw(block));
            self.used = 0;
        }
        let block = *self.blocks.last().expect("there is room in it");
        let at = block.cast::<u8>().wrapping_add(self.used);
        self.used += need;
        // SAFETY: there is room for as much in the block; nobody has been given this part of it yet.
        unsafe {
            at.cast::<[u8; LENGTH]>().write((len as u16).to_ne_bytes());
            ptr::copy_nonoverlapping(name.as_ptr(), at.add(LENGTH), len);
        }
        (Name(at), grown)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for block in &self.blocks {
            // SAFETY: from a box, and who drops this has seen to it that no name is used any more.
            drop(unsafe { Box::from_raw(*block) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_they_were_put() {
        let mut names = Names::default();
        let mut grown = 0;
        let all: Vec<String> = (0..500).map(|i| "é".repeat(i * i % 300)).collect();
        let put: Vec<Name> = all
            .iter()
            .map(|name| {
                let (name, more) = names.put(name);
                grown += more;
                name
            })
            .collect();
        for (name, expected) in put.iter().zip(&all) {
            // SAFETY: the names are there until the end of this.
            assert_eq!(unsafe { name.get() }, expected);
        }
        let blocks: usize = names.blocks.iter().map(|block| block.len()).sum();
        assert_eq!(blocks, grown);
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let mut names = Names::default();
        let long = "é".repeat(40_000);
        let (name, _) = names.put(&long);
        // SAFETY: as above.
        assert_eq!(unsafe { name.get() }, "é".repeat(32_767));
        let (name, _) = names.put("");
        // SAFETY: as above.
        assert_eq!(unsafe { name.get() }, "");
    }
}
