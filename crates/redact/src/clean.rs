//! Strings in which nothing was found, remembered: the same names, agents and paths stand in nearly every event.
//!
//! Whole strings are kept and compared, not their hashes: a string that is not the same is never taken for one that was
//! looked at. Whoever sends strings that displace others costs time, and nothing else.

/// Strings of usual length, and longer ones: agents, URIs, digests.
#[derive(Debug, Default)]
pub(crate) struct CleanTexts {
    short: Clean<2048, SHORT>,
    long: Clean<256, 190>,
}

/// The longest string of usual length.
const SHORT: usize = 62;

impl CleanTexts {
    /// Whether `text` was [kept](CleanTexts::keep).
    #[inline(always)]
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        if text.len() <= SHORT { self.short.holds(text) } else { self.long.holds(text) }
    }

    /// Remembers that nothing was found in `text`, if it is neither too long nor very short.
    #[inline]
    pub(crate) fn keep(&mut self, text: &[u8]) {
        if text.len() <= SHORT { self.short.keep(text) } else { self.long.keep(text) }
    }
}

/// `SLOTS` strings of up to `LONGEST` bytes. Each has one place, which another takes that comes twice: most strings that
/// come once never come again.
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
    /// Tells the string that came last, and was not kept, from most others.
    rival: u8,
    text: [u8; LONGEST],
}

impl<const SLOTS: usize, const LONGEST: usize> Clean<SLOTS, LONGEST> {
    /// Whether `text` was [kept](Clean::keep).
    #[inline]
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        let slot = Self::slot(text).and_then(|(slot, _)| self.slots.get(slot));
        slot.is_some_and(|Slot { length, text: known, .. }| {
            usize::from(*length) == text.len()
                && known.get(..text.len()).is_some_and(|known| same(known, text))
        })
    }

    /// Remembers that nothing was found in `text`, if it is neither too long nor very short.
    #[inline]
    pub(crate) fn keep(&mut self, text: &[u8]) {
        if let Some((slot, tag)) = Self::slot(text) {
            if self.slots.is_empty() {
                self.slots.resize(SLOTS, Slot { length: 0, rival: 0, text: [0; LONGEST] });
            }
            let slot = &mut self.slots[slot];
            if slot.length > 0 && slot.rival != tag {
                slot.rival = tag;
                return;
            }
            slot.length = text.len() as u8;
            slot.text[..text.len()].copy_from_slice(text);
        }
    }

    /// The place of a string by its length, its beginning and its end, and some bits more.
    #[inline(always)]
    fn slot(text: &[u8]) -> Option<(usize, u8)> {
        const { assert!(SLOTS.is_power_of_two() && LONGEST <= u8::MAX as usize) };
        if text.len() > LONGEST {
            return None;
        }
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        let mixed =
            u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29) ^ text.len() as u64;
        let hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(((hash >> 32) as usize & (SLOTS - 1), (hash >> 56) as u8))
    }
}

/// Whether two strings of the same length are equal. Most are short enough for two comparisons.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    match a.len() {
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        17..=32 => a.first_chunk::<16>() == b.first_chunk() && a.last_chunk::<16>() == b.last_chunk(),
        33..=64 => a.first_chunk::<32>() == b.first_chunk() && a.last_chunk::<32>() == b.last_chunk(),
        _ => a == b,
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
        let mut clean = CleanTexts::default();
        let texts: Vec<String> =
            (0..200).map(|length| "system:serviceaccount-".repeat(10)[..length].into()).collect();
        for text in &texts {
            assert!(!clean.holds(text.as_bytes()), "{text}");
            // One that has another's place takes it the second time.
            clean.keep(text.as_bytes());
            clean.keep(text.as_bytes());
            assert_eq!(clean.holds(text.as_bytes()), (8..=190).contains(&text.len()), "{text}");
        }
        // The same length, beginning and end.
        let (a, b) = (b"12345678-a-12345678", b"12345678-b-12345678");
        clean.keep(a);
        assert!(clean.holds(a) && !clean.holds(b));
        clean.keep(b);
        clean.keep(b);
        assert!(clean.holds(b) && !clean.holds(a));
    }
}
