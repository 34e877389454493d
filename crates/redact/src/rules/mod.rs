//! The catalogue: one rule a file, listed here. Documentation is made from this table.

use crate::config::Action;
use crate::detect::Find;
use crate::pairs::Form;

mod basic_auth;
mod bearer_token;
mod bootstrap_token;
mod build_trigger;
mod invalid_value;
mod json_web_token;
mod last_applied;
mod machine_config;
mod named_values;
mod oauth_client;
mod oauth_token;
mod password_file;
mod password_hash;
mod private_key;
mod program_option;
mod proxy_path;
mod public_certificate;
mod route_key;
mod secret_data;
mod sql_password;
mod token_request;
mod token_review;
mod url_password;
mod vendor_tokens;
mod webhook_url;

/// One built-in rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as counts and replacements show it.
    pub name: &'static str,
    /// What it takes out, in one line.
    pub doc: &'static str,
    /// Where it looks.
    pub selector: Selector,
    /// What it does.
    pub action: Action,
}

/// Where a rule looks.
#[derive(Debug)]
pub enum Selector {
    /// At `paths` inside every object of one of `kinds`, wherever it stands, and inside the bodies of requests
    /// for one of `resources` (patches and JSON Patch operations included).
    Fields {
        /// `kind` of the object.
        kinds: &'static [&'static str],
        /// The request's resource.
        resources: &'static [Resource],
        /// Paths from the object's root; see [`crate::path`].
        paths: &'static [&'static str],
    },
    /// The name of an object: in the object, in lists and tables of such, and, of the object that a request names,
    /// wherever the name stands in the event.
    Name {
        /// `kind` of the object.
        kinds: &'static [&'static str],
        /// The request's resource.
        resources: &'static [Resource],
    },
    /// Everywhere, for text of a certain form.
    Text {
        /// Where a look is due.
        needles: &'static [Needle],
        /// Decides, from the needle's place.
        find: Find,
    },
    /// Everywhere, for values beside a telling name, written in this form.
    Pair(Form),
    /// In the annotation `last-applied-configuration`: a document that must be readable, or go as a whole.
    LastApplied,
}

/// What tells that a look is due. Words are made of letters, digits, `_` and `-`.
#[derive(Clone, Copy, Debug)]
pub enum Needle {
    /// At the beginning of a word, three bytes at least.
    Begin(&'static str),
    /// At the end of a word, four bytes at least.
    End(&'static str),
    /// Anywhere; begins with one of `:`, `%`, `$`, `{` and has three bytes at least, or is `~`.
    Mark(&'static str),
    /// A dot that joins two words of so many bytes.
    Joined(usize, usize),
}

/// A resource as `objectRef` names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for core.
    pub group: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Subresource, empty for the resource itself and `*` for any or none.
    pub subresource: &'static str,
}

/// All rules, in the order in which they are documented and numbered.
pub const RULES: &[&Rule] = &[
    &secret_data::RULE,
    &token_review::RULE,
    &token_request::RULE,
    &route_key::RULE,
    &oauth_client::RULE,
    &oauth_token::RULE,
    &build_trigger::RULE,
    &machine_config::RULE,
    &public_certificate::RULE,
    &last_applied::RULE,
    &json_web_token::RULE,
    &bearer_token::RULE,
    &basic_auth::RULE,
    &private_key::RULE,
    &url_password::RULE,
    &password_hash::RULE,
    &password_file::NETRC,
    &password_file::PGPASS,
    &sql_password::RULE,
    &webhook_url::RULE,
    &bootstrap_token::RULE,
    &vendor_tokens::GITHUB,
    &vendor_tokens::GITLAB,
    &vendor_tokens::SLACK,
    &vendor_tokens::AWS,
    &vendor_tokens::GOOGLE,
    &vendor_tokens::NPM,
    &vendor_tokens::PYPI,
    &vendor_tokens::STRIPE,
    &vendor_tokens::SENDGRID,
    &vendor_tokens::VAULT,
    &vendor_tokens::OPENAI,
    &vendor_tokens::DIGITALOCEAN,
    &vendor_tokens::HUGGING_FACE,
    &vendor_tokens::OPENSHIFT,
    &vendor_tokens::AGE,
    &vendor_tokens::ATLASSIAN,
    &vendor_tokens::AZURE,
    &vendor_tokens::TWILIO,
    &vendor_tokens::OTHERS,
    &named_values::MEMBER,
    &named_values::NAMED,
    &named_values::ARGUMENT,
    &invalid_value::RULE,
    &program_option::RULE,
    &proxy_path::RULE,
    &named_values::QUERY,
    &named_values::TEXT,
];

#[cfg(test)]
pub(crate) mod testing {
    //! `check`: the one place where the rules' tests touch the API.

    use crate::{RedactConfig, Redactor, Scratch};
    use auditship_event::{Event, Keys};

    /// Redacts `line` and compares; in `want`, `‹rule›` stands for that rule's replacement.
    #[track_caller]
    pub(crate) fn check(line: &str, want: &str) {
        let redactor = Redactor::new(&RedactConfig::default(), Keys::derive(b"key", "c")).unwrap();
        let mut scratch = Scratch::default();
        let mut out = Vec::new();
        redactor.body(&Event::parse(line.as_bytes()).unwrap(), &mut scratch).unwrap().write(&mut out);
        let mut got = String::from_utf8(out).unwrap();
        while let Some(at) = got.find("redacted:") {
            let end = got[at..].find(|c: char| !(c.is_ascii_alphanumeric() || ":-".contains(c)));
            let end = end.map_or(got.len(), |end| at + end);
            let name = got[at..end].split(':').nth(1).unwrap().to_owned();
            got.replace_range(at..end, &format!("‹{name}›"));
        }
        assert_eq!(got, want);
        serde_json::from_str::<serde_json::Value>(want).expect("still JSON");
    }

    /// `line` must not change.
    #[track_caller]
    pub(crate) fn unchanged(line: &str) {
        check(line, line);
    }
}
