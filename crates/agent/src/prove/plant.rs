//! From the table to lines: made-up secrets of the right form, written into events at every place.
//!
//! Pure: all randomness comes from one seed.

use super::seek::Needle;
use super::table::{Encoding, KINDS, Kind, PLACES, Place, Size, TORN, Takes};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::{Map, Value, json};
use std::io::Write;

/// One canary in one event.
pub struct Case {
    /// What it is.
    pub kind: &'static Kind,
    /// Where it stands.
    pub place: &'static Place,
    /// How it is written there.
    pub encoding: Encoding,
    /// The line of the log.
    pub line: Vec<u8>,
    /// What must not leave.
    pub needle: Needle,
}

/// Every case of the table, with secrets made from `seed`.
pub fn cases(seed: u64) -> Vec<Case> {
    let mut rng = Rng::with_seed(seed);
    let mut cases = Vec::new();
    for place in PLACES {
        for kind in KINDS.iter().filter(|kind| fits(kind, place)) {
            for encoding in place.encodings.iter().copied() {
                if (kind.size == Size::Line || kind.size == Size::Opaque || encoding.takes_text())
                    && !(kind.size == Size::Packed && encoding != Encoding::Plain)
                {
                    cases.push(case(kind, place, encoding, &mut rng));
                }
            }
        }
    }
    cases
}

fn fits(kind: &Kind, place: &Place) -> bool {
    match place.takes {
        Takes::Lines => kind.size == Size::Line,
        Takes::Texts => kind.size != Size::Opaque,
        Takes::Secrets => true,
        Takes::Tokens => matches!(kind.name, "opaque" | "jwt" | "openshift-token" | "bootstrap-token"),
    }
}

fn case(kind: &'static Kind, place: &'static Place, encoding: Encoding, rng: &mut Rng) -> Case {
    let secret = Secret::make(kind, rng);
    let slot = Slot::encode(kind.key, &secret.text, encoding);
    let members: Value =
        serde_json::from_str(place.event).expect("a template is JSON: a test reads all of them");
    let mut line = event(&slot.fill(&members), rng);
    if encoding == Encoding::Escaped {
        line = spelled(&line, &slot.value);
    }
    if place.name == TORN {
        // As when the API server dies: the secret is there, and nothing behind it.
        let end = line.find("\"}},\"requestReceivedTimestamp");
        line.truncate(end.unwrap_or_default());
    }
    let mut needle = Needle::new(&[]);
    for marked in &secret.marked {
        let joint = if kind.form.contains("{pem-json:") { "\\n" } else { "\n" };
        needle = needle.and(Needle::new(&marked.split(joint).collect::<Vec<_>>()));
    }
    let line = line.into_bytes();
    Case { kind, place, encoding, line, needle }
}

/// A made-up secret.
struct Secret {
    text: String,
    /// What of it must not leave.
    marked: Vec<String>,
}

impl Secret {
    fn make(kind: &Kind, rng: &mut Rng) -> Secret {
        let (mut text, mut marked) = (String::new(), Vec::new());
        let mut from = 0;
        // The text of the generator before, which a checksum is over.
        let mut last = String::new();
        let mut rest = kind.form;
        while let Some(c) = rest.chars().next() {
            match c {
                '«' => from = text.len(),
                '»' => marked.push(text[from..].to_owned()),
                '{' => {
                    if let Some((made, after)) = generated(&rest[1..], &last, rng) {
                        text.push_str(&made);
                        last = made;
                        rest = after;
                        continue;
                    }
                    text.push('{');
                }
                c => text.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
        if kind.size == Size::Packed {
            text = STANDARD.encode(gzip(text.as_bytes()));
        }
        Secret { text, marked }
    }
}

/// What the generator at the beginning of `rest` makes, and what follows it. `None`: it is only a brace.
fn generated<'r>(rest: &'r str, last: &str, rng: &mut Rng) -> Option<(String, &'r str)> {
    let (word, after) = rest.split_once('}')?;
    let (name, number) = word.split_once(':').unwrap_or((word, "0"));
    let count: usize = number.parse().ok()?;
    let made = match name {
        "mixed" => mixed(count, rng),
        "lower" => letters(count, b"abcdefghijklmnopqrstuvwxyz0123456789", rng),
        "hex" => letters(count, b"0123456789abcdef", rng),
        "upper-hex" => letters(count, b"0123456789ABCDEF", rng),
        "digits" => letters(count, b"0123456789", rng),
        "base32" => letters(count, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", rng),
        "b64url" => {
            // It neither begins nor ends with a dash.
            let rest = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            mixed(8, rng) + &letters(count.saturating_sub(16), rest, rng) + &mixed(count.min(16) - 8, rng)
        }
        "b64" => STANDARD.encode(bytes(count, rng)),
        "pem" => pem(count, "\n", rng),
        "pem-json" => pem(count, "\\n", rng),
        "words" => words(count, rng),
        "symbols" => symbols(count, rng),
        "crc62" => checksum62(last),
        "crc-hex" => format!("{:08X}", crc(last.as_bytes())),
        "uuid" => uuid(rng),
        "userpass" => {
            let user = letters(6, b"abcdefghijklmnopqrstuvwxyz", rng);
            STANDARD.encode(format!("{user}:{}", mixed(20, rng)))
        }
        "jwt-header" => URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{}"}}"#, mixed(12, rng))),
        "jwt-claims" => {
            let sub = format!("system:serviceaccount:default:app-{}", mixed(8, rng));
            URL_SAFE_NO_PAD.encode(json!({"iss": "k8s", "sub": sub, "jti": uuid(rng)}).to_string())
        }
        _ => return None,
    };
    Some((made, after))
}

fn letters(count: usize, alphabet: &[u8], rng: &mut Rng) -> String {
    (0..count).map(|_| char::from(alphabet[rng.usize(..alphabet.len())])).collect()
}

/// Letters of both cases and digits, of each at least two: as a password generator makes them.
fn mixed(count: usize, rng: &mut Rng) -> String {
    let groups: [&[u8]; 3] = [b"ABCDEFGHJKLMNPQRSTUVWXYZ", b"abcdefghijkmnopqrstuvwxyz", b"23456789"];
    let all = groups.concat();
    let mut made: Vec<u8> = (0..count).map(|_| all[rng.usize(..all.len())]).collect();
    for (at, place) in made.iter_mut().enumerate().take(6) {
        *place = groups[at % 3][rng.usize(..groups[at % 3].len())];
    }
    rng.shuffle(&mut made);
    String::from_utf8_lossy(&made).into_owned()
}

/// The same with symbols in it that some language or other wants quoted.
fn symbols(count: usize, rng: &mut Rng) -> String {
    let mut made: Vec<char> = mixed(count, rng).chars().collect();
    let symbols = ['&', '$', '%', ';', '"', '#', '\\', '!'];
    for (at, symbol) in symbols.into_iter().enumerate() {
        // Never the first one, and spread out.
        let place = 2 + at * (count - 3) / symbols.len();
        made[place] = symbol;
    }
    made.into_iter().collect()
}

fn words(count: usize, rng: &mut Rng) -> String {
    let word = |rng: &mut Rng| {
        let syllable = |rng: &mut Rng| letters(1, b"bdfghklmnprstvz", rng) + &letters(1, b"aeiou", rng);
        (0..3).map(|_| syllable(rng)).collect::<String>()
    };
    (0..count).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn bytes(count: usize, rng: &mut Rng) -> Vec<u8> {
    (0..count).map(|_| rng.u8(..)).collect()
}

fn pem(lines: usize, joint: &str, rng: &mut Rng) -> String {
    (0..lines).map(|_| STANDARD.encode(bytes(48, rng))).collect::<Vec<_>>().join(joint)
}

fn uuid(rng: &mut Rng) -> String {
    let hex = letters(32, b"0123456789abcdef", rng);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn crc(of: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(of);
    crc.sum()
}

/// The six last characters of GitHub's and npm's tokens: the CRC-32 of those before in base 62
/// (github.blog/2021-04-05-behind-githubs-new-authentication-token-formats).
fn checksum62(of: &str) -> String {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc(of.as_bytes());
    let mut made = [b'0'; 6];
    for digit in made.iter_mut().rev() {
        *digit = digits[(rest % 62) as usize];
        rest /= 62;
    }
    String::from_utf8_lossy(&made).into_owned()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    let _ = packed.write_all(plain);
    packed.finish().unwrap_or_default()
}

/// What is written into a place.
struct Slot {
    /// The telling name, if the secret needs one beside it.
    named: Option<String>,
    key: String,
    value: String,
}

impl Slot {
    /// `text` in `encoding`, under the name that it then has: a document's is that of a file.
    fn encode(key: &'static str, text: &str, encoding: Encoding) -> Slot {
        let member = if key.is_empty() { "setting" } else { key };
        let json = || json!({"app": {"replicas": 1, member: text}}).to_string();
        let yaml = || format!("app:\n  replicas: 1\n  {}\n", yaml(member, text, "  "));
        let assigned = || if key.is_empty() { text.to_owned() } else { format!("{key}={text}\n") };
        let file = |name: &str, value: String| Slot { named: None, key: name.to_owned(), value };
        match encoding {
            Encoding::Plain | Encoding::Escaped => Slot {
                named: (!key.is_empty()).then(|| key.to_owned()),
                key: member.to_owned(),
                value: text.to_owned(),
            },
            Encoding::Json => file("app.json", json()),
            Encoding::JsonTwice => file("app.json", json!({"file": json()}).to_string()),
            Encoding::Yaml => file("app.yaml", yaml()),
            Encoding::YamlStream => file("app.yaml", format!("kind: Namespace\n---\n{}", yaml())),
            Encoding::Properties => file("app.properties", format!("replicas=1\napp.{member}={text}\n")),
            Encoding::Percent => {
                let name = if key.is_empty() { "next" } else { key };
                file("url", format!("https://h.example.com/?{name}={}", percent(text)))
            }
            Encoding::Base64 => file("file", STANDARD.encode(assigned())),
            Encoding::Base64Url => file("file", URL_SAFE_NO_PAD.encode(assigned())),
            Encoding::Base64Wrapped => {
                let packed = STANDARD.encode(format!(
                    "# a file of some length, so that there are lines\n# {}\n{}",
                    "-".repeat(40),
                    assigned()
                ));
                let lines: Vec<&str> =
                    (0..packed.len()).step_by(76).map(|at| &packed[at..packed.len().min(at + 76)]).collect();
                file("file", lines.join("\n") + "\n")
            }
            Encoding::Base64Json => file("file", STANDARD.encode(json())),
            Encoding::Base64Yaml => file("file", STANDARD.encode(yaml())),
            Encoding::Base64Twice => file("file", STANDARD.encode(STANDARD.encode(assigned()))),
            Encoding::Gzip => file("file", STANDARD.encode(gzip(json().as_bytes()))),
        }
    }

    /// On a line of text: with its name before it.
    fn line(&self) -> String {
        match &self.named {
            Some(name) => format!("{name}={}", self.value),
            None => self.value.clone(),
        }
    }

    /// In a shell's command: with its name before it, and quoted where it must be.
    fn shell(&self) -> String {
        let plain = self.value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./+=~:,@%".contains(c));
        match &self.named {
            Some(_) if plain => format!("{}={}", self.env(), self.value),
            Some(_) => format!("{}='{}'", self.env(), self.value),
            // It is a command, or whatever else brings its own quotes.
            None => self.value.clone(),
        }
    }

    fn env(&self) -> String {
        let mut name = String::new();
        for (at, c) in self.key.char_indices() {
            if c.is_ascii_uppercase() && at > 0 && self.key[..at].ends_with(|c: char| c.is_ascii_lowercase())
            {
                name.push('_');
            }
            name.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        }
        name
    }

    fn flag(&self) -> String {
        match &self.named {
            Some(_) => format!("--{}={}", self.env().to_ascii_lowercase().replace('_', "-"), self.value),
            None => self.value.clone(),
        }
    }

    fn args(&self) -> Vec<String> {
        match &self.named {
            Some(_) => {
                let option = format!("--{}", self.env().to_ascii_lowercase().replace('_', "-"));
                vec![option, self.value.clone()]
            }
            // A command.
            None if self.value.contains(" -") => self.value.split(' ').map(str::to_owned).collect(),
            None => vec![self.value.clone()],
        }
    }

    fn query(&self) -> String {
        match &self.named {
            Some(name) => format!("{name}={}", percent(&self.value)),
            None => format!("next={}", percent(&self.value)),
        }
    }

    /// `template` with every slot filled.
    fn fill(&self, template: &Value) -> Value {
        match template {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => {
                let mut out = Vec::new();
                for item in items {
                    match item.as_str() {
                        Some("$ARGS") => out.extend(self.args().into_iter().map(Value::String)),
                        _ => out.push(self.fill(item)),
                    }
                }
                Value::Array(out)
            }
            Value::Object(members) => match members.get("$json") {
                Some(inner) => Value::String(self.fill(inner).to_string()),
                None => members
                    .iter()
                    .map(|(key, value)| (self.fill_text(key), self.fill(value)))
                    .collect::<Map<_, _>>()
                    .into(),
            },
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        let Some(at) = text.find('$') else { return text.to_owned() };
        let end = text[at + 1..].find(|c: char| !c.is_ascii_uppercase() && c != '6' && c != '4');
        let end = end.map_or(text.len(), |step| at + 1 + step);
        let filled = match &text[at..end] {
            "$KEY" => self.key.clone(),
            "$ENV" => self.env(),
            "$VALUE" => self.value.clone(),
            "$B64" => STANDARD.encode(&self.value),
            "$LINE" => self.line(),
            "$SHELL" => self.shell(),
            "$FLAG" => self.flag(),
            "$QUERY" => self.query(),
            "$SEGMENT" => percent(&self.value),
            "$EXEC" => format!("command={}", percent(&self.shell())),
            "$YAML" => yaml(&self.key, &self.value, "  "),
            other => other.to_owned(),
        };
        format!("{}{filled}{}", &text[..at], self.fill_text(&text[end..]))
    }
}

/// A member of a YAML map: plain where that is allowed, quoted, or as a block.
fn yaml(key: &str, text: &str, indent: &str) -> String {
    if text.contains('\n') {
        let lines: Vec<String> = text.lines().map(|line| format!("{indent}  {line}")).collect();
        return format!("{key}: |\n{}", lines.join("\n"));
    }
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./+=~ ".contains(c));
    if plain { format!("{key}: {text}") } else { format!("{key}: {}", Value::from(text)) }
}

/// As `encodeURIComponent` writes it.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The line with every second character of `value` spelled with an escape that need not be.
fn spelled(line: &str, value: &str) -> String {
    let quoted = html_safe(&Value::from(value).to_string());
    let mut spelled = String::new();
    for (at, c) in value.chars().enumerate() {
        match c {
            c if c.is_ascii_alphanumeric() && at % 2 == 0 => {
                spelled.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            '"' | '\\' => spelled.extend(['\\', c]),
            '\n' => spelled.push_str("\\n"),
            c => spelled.push(c),
        }
    }
    line.replace(&quoted[1..quoted.len() - 1], &spelled)
}

/// JSON text as Go's encoder writes it: these three are escaped wherever they stand.
fn html_safe(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// A whole event in the order in which the API server writes its members, `members` over the usual ones.
fn event(members: &Value, rng: &mut Rng) -> String {
    let object = &members["objectRef"];
    let resource = object["resource"].as_str().unwrap_or_default();
    let uri = match object["apiGroup"].as_str() {
        Some(group) => format!("/apis/{group}/v1/namespaces/default/{resource}/app"),
        None => format!("/api/v1/namespaces/default/{resource}/app"),
    };
    let usual = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": uuid(rng),
        "stage": "ResponseComplete", "requestURI": uri,
        "user": {"username": "alice@example.com", "groups": ["system:authenticated"]},
        "sourceIPs": ["192.0.2.7"], "userAgent": "kubectl/v1.31.0 (linux/amd64) kubernetes/9edcffc",
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000001Z",
        "stageTimestamp": "2026-01-02T03:04:05.010002Z",
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    });
    let mut reference = json!({"namespace": "default", "name": "app", "apiVersion": "v1"});
    if let (Some(reference), Some(object)) = (reference.as_object_mut(), object.as_object()) {
        reference.extend(object.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let order = [
        "kind",
        "apiVersion",
        "level",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "impersonatedUser",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestObject",
        "responseObject",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
    ];
    let mut out = String::new();
    for name in order {
        let value = match name {
            "objectRef" => &reference,
            _ => members.get(name).unwrap_or(&usual[name]),
        };
        if !value.is_null() {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&format!("\"{name}\":{}", html_safe(&value.to_string())));
        }
    }
    out + "}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use auditship_event::Event;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_is_an_event_that_holds_its_canary() {
        let cases = cases(7);
        assert!(cases.len() > 3000, "{}", cases.len());
        let mut all = BTreeSet::new();
        for case in &cases {
            let name = format!("{} {} {}", case.kind.name, case.place.name, case.encoding.name());
            let line = String::from_utf8_lossy(&case.line);
            assert!(all.insert(name.clone()), "{name} twice");
            assert!(case.needle.is_in(&case.line), "{name}: {line}");
            assert!(!line.contains("$KEY") && !line.contains("$B64"), "{name}: {line}");
            match case.place.name {
                TORN => assert!(Event::parse(&case.line).is_err(), "{name}: {line}"),
                _ => assert!(Event::parse(&case.line).is_ok_and(|event| event.is_audit()), "{name}: {line}"),
            }
        }
        for kind in KINDS {
            assert!(cases.iter().any(|case| case.kind.name == kind.name), "{} stands nowhere", kind.name);
        }
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let lines = |seed| cases(seed).into_iter().map(|case| case.line).collect::<Vec<_>>();
        assert_eq!(lines(1), lines(1));
        assert!(lines(1).iter().zip(lines(2)).all(|(one, two)| *one != two));
    }

    #[test]
    fn no_canary_is_found_in_anothers_event() {
        let cases = cases(3);
        for pair in cases.windows(2) {
            let name = (pair[0].kind.name, pair[0].place.name, pair[0].encoding);
            assert!(!pair[0].needle.is_in(&pair[1].line), "{name:?}");
        }
    }

    #[test]
    fn github_checksums() {
        // The CRC-32 of "123456789" is the check value of the algorithm: 0xCBF43926.
        assert_eq!(crc(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum62("123456789"), "3jZRME");
    }
}
