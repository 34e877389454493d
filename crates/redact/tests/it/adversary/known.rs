//! What leaks today, although it should not: combinations that the random cases leave out. The list may only shrink:
//! an entry of which no case leaks any more fails a test.
//!
//! A case is seen as a chain from the inside out: what is around the text in the document, in its encodings, at its
//! place in the event, and in the spelling of the line.

use super::Case;
use super::documents::Document;
use super::places::{Carrier, Place};
use super::spelling::Spelling;
use super::wraps::Wrap;

/// One thing around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A member of a JSON document.
    Json,
    /// A member of a JSON document, spelled with needless escapes.
    Escapes,
    /// All of a base64 string.
    Base64,
    /// The same over several lines.
    Lines,
    /// All of a gzip stream in base64.
    Gzip,
    /// Percent-encoded.
    Percent,
    /// In the midst of a YAML text.
    Yaml,
    /// In the midst of other text.
    Among,
}

/// A class of leaks.
pub struct Known {
    pub name: &'static str,
    /// What would have to be done.
    pub why: &'static str,
    applies: fn(&Case, &[Step]) -> bool,
}

impl Known {
    pub fn applies(&self, case: &Case) -> bool {
        // What always goes is not looked into.
        let goes = case.place.always() && case.carrier != Carrier::PartialMetadata;
        !goes && (self.applies)(case, &chain(case))
    }
}

fn chain(case: &Case) -> Vec<Step> {
    let mut steps = Vec::new();
    for wrap in &case.wraps {
        steps.extend(match wrap {
            Wrap::Json => &[Step::Json][..],
            Wrap::Escapes => &[Step::Escapes],
            Wrap::Base64 => &[Step::Base64],
            Wrap::Base64Lines => &[Step::Lines],
            Wrap::Gzip => &[Step::Gzip],
            Wrap::Percent => &[Step::Percent],
            Wrap::YamlBlock | Wrap::YamlQuoted => &[Step::Yaml],
            Wrap::Base64Among => &[Step::Base64, Step::Among],
        });
    }
    steps.extend(match case.place {
        Place::Message | Place::UserAgent => &[Step::Among][..],
        Place::Uri | Place::Exec => &[Step::Percent, Step::Among],
        Place::LastApplied(_) if case.place.packed() => &[Step::Base64, Step::Json],
        Place::LastApplied(_) | Place::WebhookPatch => &[Step::Json],
        Place::Field(_) if case.place.packed() => &[Step::Base64],
        _ => &[],
    });
    if case.spelling == Spelling::Escaped {
        steps.push(Step::Escapes);
    }
    steps
}

const PACKED: &[Step] = &[Step::Base64, Step::Gzip, Step::Lines];

/// Whether one of `outer` stands around one of `inner`.
fn around(steps: &[Step], inner: &[Step], outer: &[Step]) -> bool {
    let first = steps.iter().position(|step| inner.contains(step));
    first.is_some_and(|at| steps[at + 1..].iter().any(|step| outer.contains(step)))
}

fn is_json(document: Document) -> bool {
    matches!(
        document,
        Document::Json
            | Document::NameValue
            | Document::SecretJson
            | Document::Docker
            | Document::ServiceAccount
    )
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        name: "pgpass",
        why: "a line of .pgpass has no name beside its password: a rule by its form, host:port:database:user:password",
        applies: |case, _| case.document == Document::Pgpass,
    },
    Known {
        name: "secret-in-yaml",
        why: "a Secret's manifest as YAML text is not read, and its data may have any names",
        applies: |case, _| matches!(case.document, Document::SecretYaml | Document::SecretsYaml),
    },
    Known {
        name: "secret-in-json-in-text",
        why: "a Secret's manifest as JSON is read only where it is all of a string",
        applies: |case, steps| {
            case.document == Document::SecretJson
                && steps.iter().any(|step| matches!(step, Step::Yaml | Step::Among | Step::Percent))
        },
    },
    Known {
        name: "base64-in-text",
        why: "base64 is opened only where it is all of a string, spelled without escapes",
        applies: |_, steps| around(steps, PACKED, &[Step::Yaml, Step::Among, Step::Percent, Step::Escapes]),
    },
    Known {
        name: "base64-lines",
        why: "base64 over several lines is not opened",
        applies: |_, steps| steps.contains(&Step::Lines),
    },
    Known {
        name: "base64-layers",
        why: "more than three layers of base64 and gzip are not opened",
        applies: |_, steps| steps.iter().filter(|step| PACKED.contains(step)).count() > 2,
    },
    Known {
        name: "escapes-in-text",
        why: "escapes are resolved in JSON strings of the line, not in JSON that stands in other text",
        applies: |_, steps| {
            let others = [
                Step::Yaml,
                Step::Among,
                Step::Percent,
                Step::Base64,
                Step::Gzip,
                Step::Lines,
                Step::Escapes,
            ];
            around(steps, &[Step::Escapes], &others)
        },
    },
    Known {
        name: "escaped-document",
        why: "a document that is spelled with escapes is not looked at by detectors when it has been decoded",
        applies: |case, steps| {
            let at = steps.iter().position(|step| *step == Step::Escapes);
            at.is_some_and(|at| at > 0 || is_json(case.document))
        },
    },
    Known {
        name: "document-in-packed-document",
        why: "in what is packed, objects are known by their kind on the outermost level only",
        applies: |case, steps| {
            case.document == Document::SecretJson && around(steps, &[Step::Json, Step::Escapes], PACKED)
        },
    },
    Known {
        name: "xml-in-document",
        why: "`<` that Go writes as an escape is not seen as a bracket where the text stands in a document in a string",
        applies: |case, steps| {
            case.document == Document::XmlElement
                && case.spelling == Spelling::Go
                && steps.contains(&Step::Json)
        },
    },
    Known {
        name: "documents-in-packed-documents",
        why: "what is packed in a document in a document that is packed is not found",
        applies: |_, steps| {
            let packed = steps.iter().position(|step| PACKED.contains(step));
            packed.is_some_and(|at| around(&steps[at + 1..], &[Step::Json], PACKED))
        },
    },
    Known {
        name: "token-as-base64",
        why: "what was packed and could be base64 itself (a vendor's token) is decoded once more, and not looked at",
        applies: |case, steps| {
            let text = case.text();
            let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            text.bytes().all(letter) && steps.first().is_some_and(|step| PACKED.contains(step))
        },
    },
    Known {
        name: "netrc",
        why: "`password` and a word are taken for prose: a rule by the form, machine, login, password",
        applies: |case, _| case.document == Document::Netrc,
    },
    Known {
        name: "deep-name-value",
        why: "a name and its value are put together to the fourth level of quotes only",
        applies: |case, steps| {
            let quotes = steps.iter().filter(|step| matches!(step, Step::Json | Step::Yaml | Step::Escapes));
            case.document == Document::NameValue && quotes.count() > 4
        },
    },
    Known {
        name: "name-value-apart",
        why: "a name and its value are put together where only spaces and, after the name, a few members stand between",
        applies: |case, _| {
            case.document == Document::NameValue
                && case.wraps.is_empty()
                && case.place.structured()
                && matches!(case.spelling, Spelling::Spaced | Spelling::Odd)
        },
    },
    Known {
        name: "percent",
        why: "percent-encoding is seen through around query parameters and user information, not around other formats",
        applies: |_, steps| steps.contains(&Step::Percent),
    },
];
