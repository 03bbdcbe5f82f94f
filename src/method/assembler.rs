//! Puts the instructions of thunks and stubs one after the other.

pub(super) struct Assembler<'b> {
    bytes: &'b mut [u8],
    /// The address of the first of them.
    base: u64,
    next: usize,
}

impl<'b> Assembler<'b> {
    /// Begins at the first of these bytes, which will lie at `base`.
    pub(super) fn new(bytes: &'b mut [u8], base: u64) -> Self {
        let next = 0;
        Self { bytes, base, next }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.next..][..bytes.len()].copy_from_slice(bytes);
        self.next += bytes.len();
        self
    }

    /// The distance of `target` from behind this.
    pub(super) fn displacement(&mut self, target: u64) -> &mut Self {
        let next = self.base + self.next as u64 + 4;
        self.put(&(target.wrapping_sub(next) as i32).to_le_bytes())
    }

    pub(super) fn push(&mut self, number: u32) -> &mut Self {
        self.put(&[0x68]).put(&number.to_le_bytes()) // push imm32
    }

    pub(super) fn jump(&mut self, target: u64) -> &mut Self {
        self.put(&[0xe9]).displacement(target) // jmp rel32
    }

    /// Jumps to what the word at this address says.
    pub(super) fn jump_by(&mut self, word: u64) -> &mut Self {
        self.put(&[0xff, 0x25]).displacement(word) // jmp *disp(%rip)
    }

    /// Goes on at an entry point, wherever that is, with a context in r11.
    pub(super) fn enter(&mut self, context: u64, entry_point: usize) -> &mut Self {
        self.put(&[0x49, 0xbb]).put(&context.to_le_bytes()); // movabs r11, imm64
        self.put(&[0xff, 0x25, 0, 0, 0, 0]); // jmp *0(%rip)
        self.put(&(entry_point as u64).to_le_bytes())
    }

    /// Goes on so many bytes after the first.
    pub(super) fn skip_to(&mut self, offset: u64) {
        assert!(self.next as u64 <= offset, "what is before it fits");
        self.next = offset as usize;
    }
}
