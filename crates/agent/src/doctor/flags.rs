//! The API server's command line, as far as it speaks of audit.
//!
//! It owns how kube-apiserver spells its flags: `--name=value`, `--name value`, a bare boolean, underscores for hyphens,
//! the last one counts (spf13/pflag; k8s.io/component-base `cli/flag`, `WordSepNormalizeFunc`).

use std::collections::BTreeMap;

/// Flags that need no value: `--name` alone is true.
const SWITCHES: &[&str] = &[
    "audit-log-batch-throttle-enable",
    "audit-log-compress",
    "audit-log-truncate-enabled",
    "audit-webhook-batch-throttle-enable",
    "audit-webhook-truncate-enabled",
];

/// What besides `audit-…` is kept: where OpenShift's API server has its flags from.
const CONFIG: &str = "openshift-config";

/// The flags that concern audit, by name without hyphens in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Reads the words of a command line. A word with white space that starts an API server (`sh -c "…"`) is read as
    /// words of its own.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Flags {
        let mut flags = Flags::default();
        let mut flat = Vec::new();
        for word in words {
            let script = word.contains("kube-apiserver") && word.contains(char::is_whitespace);
            if script { flat.extend(split(word)) } else { flat.push(word.to_owned()) }
        }
        let mut words = flat.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (normal(name), value.to_owned()),
                None => {
                    let name = normal(flag);
                    let own = !SWITCHES.contains(&&*name);
                    let next = words.next_if(|next| own && !next.starts_with("--"));
                    let value = next.map_or_else(|| "true".to_owned(), str::to_owned);
                    (name, value)
                }
            };
            flags.set(&name, value);
        }
        flags
    }

    /// Takes one flag, written as `name=value`, with or without hyphens in front.
    pub fn take(&mut self, text: &str) {
        let text = text.trim_start_matches('-');
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        self.set(&normal(name), value.to_owned());
    }

    /// Sets one; what does not concern audit is left out.
    pub fn set(&mut self, name: &str, value: String) {
        if name.starts_with("audit-") || name == CONFIG {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// The value, if the flag is there; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A number: `None` where the flag is absent, the text where it is none.
    pub fn number(&self, name: &str) -> Option<Result<u64, &str>> {
        self.get(name).map(|value| value.parse().map_err(|_| value))
    }

    /// Whether a boolean flag is on (Go `strconv.ParseBool`).
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "t" | "T" | "TRUE" | "true" | "True"))
    }

    /// The file that OpenShift's API server has its flags from.
    pub fn config_file(&self) -> Option<&str> {
        self.get(CONFIG)
    }

    /// All that concern audit.
    pub fn audit(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(name, _)| *name != CONFIG).map(|(name, value)| (&**name, &**value))
    }

    /// Takes all of `other`; where both have one, the other's counts.
    pub fn merge(&mut self, other: Flags) {
        self.0.extend(other.0);
    }
}

fn normal(name: &str) -> String {
    name.replace('_', "-")
}

/// The words of a line as a shell and as systemd read them: blanks separate, quotes hold together, a backslash at the
/// end of a line joins it with the next one.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) if chars.next_if_eq(&'\n').is_some() => {}
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Vec<String> {
        let flags = Flags::read(words.iter().copied());
        flags.audit().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn every_spelling_of_a_flag() {
        assert_eq!(
            read(&[
                "kube-apiserver",
                "--audit-log-path=/a=b",
                "--audit-log-maxsize",
                "100",
                "--audit_log_maxbackup=7",
                "--audit-log-compress",
                "--secure-port=6443",
                "--audit-log-mode=batch",
                "--audit-log-mode=blocking",
                "-v=2",
            ]),
            [
                "audit-log-compress=true",
                "audit-log-maxbackup=7",
                "audit-log-maxsize=100",
                "audit-log-mode=blocking",
                "audit-log-path=/a=b",
            ]
        );
        assert_eq!(read(&["--audit-log-compress", "x"]), ["audit-log-compress=true"]);
        assert_eq!(read(&["--audit-log-path"]), ["audit-log-path=true"]);
        assert_eq!(read(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_shell_in_front() {
        let script = "set -e\nexec kube-apiserver --audit-log-path='/var/log/a b.log' \\\n  --audit-log-maxage=3 --permit-address-sharing";
        assert_eq!(
            read(&["/bin/sh", "-ec", script]),
            ["audit-log-maxage=3", "audit-log-path=/var/log/a b.log"]
        );
    }

    #[test]
    fn values() {
        let mut flags = Flags::default();
        flags.take("audit-log-maxsize=ten");
        flags.take("--audit-log-compress=1");
        flags.take("audit-log-path=");
        flags.take("v=4");
        assert_eq!(flags.number("audit-log-maxsize"), Some(Err("ten")));
        assert_eq!(flags.number("audit-log-maxage"), None);
        assert!(flags.is_on("audit-log-compress") && !flags.is_on("audit-log-truncate-enabled"));
        assert_eq!(flags.get("audit-log-path"), None);
        assert_eq!(flags.get("v"), None);
    }

    #[test]
    fn words_of_a_unit() {
        let line = "/usr/local/bin/k3s \\\n    server \\\n  '--kube-apiserver-arg=audit-log-path=/x y' \"a\\\"b\" '' end\\";
        assert_eq!(
            split(line),
            ["/usr/local/bin/k3s", "server", "--kube-apiserver-arg=audit-log-path=/x y", "a\"b", "", "end"]
        );
    }
}
