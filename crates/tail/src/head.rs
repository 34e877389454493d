//! What a file begins with, as long as it is needed.
//!
//! Pure. Ten thousand heads are 40 MB: of a file that rests only so much is kept as tells it from others, and how long
//! its head is.

use std::sync::Arc;

/// So much of a head is no other file's by chance.
pub(crate) const ENOUGH: usize = 256;

/// The first bytes of a file's content behind a hole, at most [`crate::files::HEAD`]; of a file that rests so many as tell it from
/// others. Who needs more reads it again.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    bytes: Arc<[u8]>,
    /// Of all that was read.
    length: usize,
}

impl Head {
    pub(crate) fn new(bytes: Vec<u8>) -> Head {
        Head { length: bytes.len(), bytes: bytes.into() }
    }

    /// Forgets what is not needed to tell it from others.
    pub(crate) fn cut(&mut self) {
        if self.bytes.len() > ENOUGH {
            self.bytes = self.bytes[..ENOUGH].into();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of it, unless it was cut.
    pub(crate) fn whole(&self) -> Option<&Arc<[u8]>> {
        (self.bytes.len() == self.length).then_some(&self.bytes)
    }

    /// Whether `whole` is what this is a cut of.
    pub(crate) fn is_cut_of(&self, whole: &[u8]) -> bool {
        whole.len() == self.length && whole.starts_with(&self.bytes)
    }

    /// Whether it begins with `beginning`; `None`: it was cut before that can be told.
    pub(crate) fn starts_with(&self, beginning: &[u8]) -> Option<bool> {
        let known = self.bytes.len().min(beginning.len());
        let alike = beginning.len() <= self.length && self.bytes[..known] == beginning[..known];
        (!alike || known == beginning.len()).then_some(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_head_knows_what_it_does_not_know() {
        let bytes: Vec<u8> = (0..1000u32).map(|number| (number % 251) as u8).collect();
        let mut head = Head::new(bytes.clone());
        assert_eq!(head.whole().map(|whole| &whole[..]), Some(&bytes[..]));
        assert_eq!(head.starts_with(&bytes[..900]), Some(true));
        head.cut();
        assert_eq!((head.whole(), head.bytes.len()), (None, ENOUGH));
        let mut other = bytes.clone();
        other[100] = 0;
        for (beginning, expected) in [
            (&bytes[..0], Some(true)),
            (&bytes[..ENOUGH], Some(true)),
            (&bytes[..ENOUGH + 1], None),
            (&other[..900], Some(false)),
            (&[&bytes[..], b"more"].concat(), Some(false)),
        ] {
            assert_eq!(head.starts_with(beginning), expected, "{}", beginning.len());
        }
        assert!(head.is_cut_of(&bytes));
        assert!(!head.is_cut_of(&other) && !head.is_cut_of(&bytes[..999]));
    }

    #[test]
    fn a_short_head_stays_whole() {
        let mut head = Head::new(b"{}\n".to_vec());
        head.cut();
        assert_eq!(head.whole().map(|whole| &whole[..]), Some(&b"{}\n"[..]));
        assert!(Head::new(Vec::new()).is_empty());
    }
}
