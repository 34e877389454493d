//! Small changes to inputs, from a seed: the same seed gives the same inputs.

use fastrand::Rng;

/// An input never grows beyond this.
const MAX: usize = 4096;

/// Pieces that mean something to what is tested.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "\\\"",
    "\\\\",
    "\\u0065",
    "\\u0022",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\n",
    "\n",
    "\r\n",
    "\0",
    "\t",
    "é",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "-0",
    "1e400",
    "0.5E-3",
    "{}",
    "[]",
    "\"\":",
    "\"kind\":\"Secret\",",
    "\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",",
    "\"requestObject\":",
    "\"objectRef\":{\"resource\":\"secrets\"},",
    "\"data\":{\"k\":\"QQ==\"}",
    "\"stringData\":",
    "kubectl.kubernetes.io/last-applied-configuration",
    "password",
    "token=",
    "--password ",
    "apiKey: ",
    "\"name\":\"DB_PASSWORD\",",
    "\"value\":\"x\"",
    "/env/0/value",
    "\"op\":\"add\",\"path\":\"/data/k\",",
    "://u:p@h",
    "eyJhbGciOiJub25lIn0.e30.",
    "Bearer ",
    "Basic ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END",
    "ghp_",
    "mysql -p",
    "Invalid value: \"",
    "/proxy/",
    "=",
    "==",
    "%22",
    "%2F",
    "%",
    "&",
    "\\u0026",
    "<",
    ">",
    "'",
    "H4sIAAAAAAAA",
    "2026-11-24T02:29:59.024123456Z stdout F ",
    "2026-11-24T02:29:59.024123456Z stdout P ",
    "2026-11-24T02:29:59Z stderr F ",
];

/// Another input, made of one of `corpus` by a few changes.
pub fn input(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus.get(rng.usize(..corpus.len().max(1))).cloned().unwrap_or_default();
    let mut input = pick(rng);
    for _ in 0..1 + rng.usize(..6) {
        let at = rng.usize(..=input.len());
        let other = rng.usize(..=input.len());
        let (from, to) = (at.min(other), at.max(other));
        match rng.u8(..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => insert(&mut input, at, &[rng.u8(..)]),
            // Rather a little than half of it.
            3 => drop(input.drain(from..to.min(from + 1 + rng.usize(..32)))),
            4 => {
                let piece = input[from..to.min(from + 256)].to_vec();
                insert(&mut input, rng.usize(..=from), &piece);
            }
            5 => {
                let piece = pick(rng);
                let start = rng.usize(..=piece.len());
                let length = rng.usize(..=piece.len() - start);
                insert(&mut input, at, &piece[start..start + length]);
            }
            6 if rng.u8(..4) == 0 => input.truncate(at),
            _ => insert(&mut input, at, WORDS[rng.usize(..WORDS.len())].as_bytes()),
        }
    }
    input.truncate(MAX);
    input
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
