//! The small patterns inside words: globs, networks, status codes, bounds on a duration.
//!
//! Each is parsed once from the configuration and then matches without allocating.

use std::net::IpAddr;

/// A text with `*` for any run of characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// Every text is a glob.
    pub fn new(pattern: &str) -> Glob {
        Glob(pattern.into())
    }

    /// Whether it says more than its letters.
    pub fn is_pattern(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` fits. Steps are bounded by the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, bytes) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last `*` stands, and where the text went on after what it covers so far.
        let mut star: Option<(usize, usize)> = None;
        while t < bytes.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(b'?') => (p, t) = (p + 1, t + char_len(bytes[t])),
                Some(byte) if *byte == bytes[t] => (p, t) = (p + 1, t + 1),
                _ => match star {
                    None => return false,
                    Some((at, from)) => {
                        let from = from + char_len(bytes[from]);
                        star = Some((at, from));
                        (p, t) = (at + 1, from);
                    }
                },
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }
}

/// How many bytes the character has that begins with `first`.
fn char_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// An address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    bits: u8,
}

impl Net {
    /// Reads `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`. Bits outside the network may be set.
    pub fn parse(text: &str) -> Option<Net> {
        let Some((base, bits)) = text.split_once('/') else {
            let base = text.parse::<IpAddr>().ok()?.to_canonical();
            return Some(Net { base, bits: if base.is_ipv4() { 32 } else { 128 } });
        };
        let base = base.parse::<IpAddr>().ok()?;
        let bits = bits.bytes().all(|b| b.is_ascii_digit()).then(|| bits.parse::<u8>().ok())??;
        (bits <= if base.is_ipv4() { 32 } else { 128 }).then_some(Net { base, bits })
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let rest = 32 - u32::from(self.bits);
                (base.to_bits() ^ ip.to_bits()).checked_shr(rest).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let rest = 128 - u32::from(self.bits);
                (base.to_bits() ^ ip.to_bits()).checked_shr(rest).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// A range of status codes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
}

impl Codes {
    /// Reads `401`, `4xx`, `500-599`.
    pub fn parse(text: &str) -> Option<Codes> {
        let one = |text: &str| -> Option<u16> {
            let code = (text.len() == 3).then(|| text.parse::<u16>().ok())??;
            (100..=599).contains(&code).then_some(code)
        };
        if let Some(class) = text.strip_suffix("xx") {
            let low = one(&format!("{class}00"))?;
            return Some(Codes { low, high: low + 99 });
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (one(low)?, one(high)?);
        (low <= high).then_some(Codes { low, high })
    }

    /// Whether `code` is in it.
    pub fn contains(&self, code: u16) -> bool {
        (self.low..=self.high).contains(&code)
    }
}

/// A bound on a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    sense: Sense,
    micros: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Bound {
    /// Reads `>1s`, `>=500ms`, `<2s`, `<=1.5s`; units are us, ms, s, m, h.
    pub fn parse(text: &str) -> Option<Bound> {
        let text = text.trim();
        let (sense, rest) =
            [(">=", Sense::AtLeast), ("<=", Sense::AtMost), (">", Sense::Above), ("<", Sense::Below)]
                .into_iter()
                .find_map(|(sign, sense)| Some((sense, text.strip_prefix(sign)?.trim())))?;
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(unit_at);
        let unit: f64 = match unit.trim() {
            "us" | "µs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 60e6,
            "h" => 3600e6,
            _ => return None,
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
            return None;
        }
        let micros = number.parse::<f64>().ok()? * unit;
        // A century of microseconds is far inside what a double holds exactly.
        (micros < 3.2e15).then(|| Bound { sense, micros: micros.round() as i64 })
    }

    /// Whether `micros` keeps within the bound.
    pub fn holds(&self, micros: i64) -> bool {
        match self.sense {
            Sense::Above => micros > self.micros,
            Sense::AtLeast => micros >= self.micros,
            Sense::Below => micros < self.micros,
            Sense::AtMost => micros <= self.micros,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("curl/*", "curl/8.1", true),
            ("*curl*", "x curl", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("?", "ä", true),
            ("?", "", false),
            ("*?", "€", true),
            ("*??", "€", false),
            ("a?c", "abc", true),
            ("a\\*", "a\\x", true),
            ("ä*", "äö", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), want, "{pattern} {text}");
        }
    }

    /// The definition, exponential.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', p @ ..], t) => (0..=t.len()).any(|n| slow(p, &t[n..])),
            (['?', p @ ..], [_, t @ ..]) => slow(p, t),
            ([c, p @ ..], [d, t @ ..]) => c == d && slow(p, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_follow_their_definition(pattern in "[abä€*?]{0,8}", text in "[abä€]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Glob::new(&pattern).matches(&text), slow(&p, &t));
        }
    }

    #[test]
    fn networks() {
        for (net, ip, want) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            assert_eq!(Net::parse(net).unwrap().contains(ip.parse().unwrap()), want, "{net} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/x"]
        {
            assert_eq!(Net::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn codes() {
        for (text, low, high) in [("401", 401, 401), ("4xx", 400, 499), ("500-599", 500, 599)] {
            assert_eq!(Codes::parse(text), Some(Codes { low, high }), "{text}");
        }
        for bad in
            ["", "40", "4040", "099", "600", "6xx", "xx", "4x", "44xx", "599-500", "4xx-5xx", "+40", "-1"]
        {
            assert_eq!(Codes::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds() {
        for (text, at, beside) in [
            (">1s", [1_000_001, 5_000_000], [1_000_000, 0]),
            (">=500ms", [500_000, 600_000], [499_999, 0]),
            ("< 2s", [1_999_999, -1], [2_000_000, 3_000_000]),
            ("<=1.5s", [1_500_000, 0], [1_500_001, 9_000_000]),
            (">2m", [120_000_001, 200_000_000], [120_000_000, 1]),
        ] {
            let bound = Bound::parse(text).unwrap();
            assert!(at.iter().all(|m| bound.holds(*m)), "{text}");
            assert!(!beside.iter().any(|m| bound.holds(*m)), "{text}");
        }
        for bad in
            ["", "1s", ">", ">s", ">1", ">1 day", "=1s", ">-1s", ">1.s", ">.5s", ">1.2.3s", ">99999999999h"]
        {
            assert_eq!(Bound::parse(bad), None, "{bad}");
        }
    }
}
