//! Strings in which nothing was found, remembered: the same names, agents and paths stand in nearly every event.
//!
//! Whole strings are kept and compared, not their hashes: a string that is not the same is never taken for one that was
//! looked at. Whoever sends strings that displace others costs time, and nothing else.

/// `SLOTS` strings of up to `LONGEST` bytes. Each has one place, which the last one takes.
#[derive(Default)]
pub(crate) struct Clean<const SLOTS: usize, const LONGEST: usize> {
    /// Empty until the first string is kept.
    slots: Vec<Slot<LONGEST>>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot<const LONGEST: usize> {
    /// 0: empty.
    length: u8,
    text: [u8; LONGEST],
}

impl<const SLOTS: usize, const LONGEST: usize> Clean<SLOTS, LONGEST> {
    /// Whether `text` was [kept](Clean::keep).
    #[inline]
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        let slot = Self::slot(text).and_then(|slot| self.slots.get(slot));
        slot.is_some_and(|Slot { length, text: known }| known.get(..usize::from(*length)) == Some(text))
    }

    /// Remembers that nothing was found in `text`, if it is neither too long nor very short.
    #[inline]
    pub(crate) fn keep(&mut self, text: &[u8]) {
        if let Some(slot) = Self::slot(text) {
            if self.slots.is_empty() {
                self.slots.resize(SLOTS, Slot { length: 0, text: [0; LONGEST] });
            }
            let slot = &mut self.slots[slot];
            slot.length = text.len() as u8;
            slot.text[..text.len()].copy_from_slice(text);
        }
    }

    /// The place of a string by its length, its beginning and its end.
    #[inline(always)]
    fn slot(text: &[u8]) -> Option<usize> {
        const { assert!(SLOTS.is_power_of_two() && LONGEST <= u8::MAX as usize) };
        if text.len() > LONGEST {
            return None;
        }
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        let mixed =
            u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29) ^ text.len() as u64;
        Some((mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (SLOTS - 1))
    }
}

impl<const SLOTS: usize, const LONGEST: usize> std::fmt::Debug for Clean<SLOTS, LONGEST> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content.
        f.write_str("Clean")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_kept_and_nothing_else() {
        let mut clean = Clean::<64, 63>::default();
        let texts: Vec<String> =
            (0..70).map(|length| "system:serviceaccount-".repeat(4)[..length].into()).collect();
        for text in &texts {
            assert!(!clean.holds(text.as_bytes()), "{text}");
            clean.keep(text.as_bytes());
            assert_eq!(clean.holds(text.as_bytes()), (8..=63).contains(&text.len()), "{text}");
        }
        // The same length, beginning and end.
        clean.keep(b"12345678-a-12345678");
        assert!(!clean.holds(b"12345678-b-12345678"));
        clean.keep(b"12345678-b-12345678");
        assert!(clean.holds(b"12345678-b-12345678") && !clean.holds(b"12345678-a-12345678"));
    }
}
