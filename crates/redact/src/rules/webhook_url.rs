//! Addresses that let whoever knows them post messages.

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::run;
use std::ops::Range;

/// Incoming webhooks: the address is the credential (`api.slack.com/messaging/webhooks`,
/// `discord.com/developers/docs/resources/webhook`, `learn.microsoft.com`, "Create an Incoming Webhook").
pub(super) static RULE: Rule = Rule {
    name: "webhook-url",
    doc: "the secret part of incoming webhooks' addresses: Slack, Discord, Microsoft Teams, OpenShift builds",
    selector: Selector::Text {
        needles: &[
            Needle::Begin("hooks.slack.com/"),
            Needle::Begin("discord.com/api/webhooks/"),
            Needle::Begin("discordapp.com/api/webhooks/"),
            Needle::Begin("webhook.office.com/webhookb2/"),
            Needle::Begin(BUILD),
        ],
        find,
    },
    action: Action::Token,
};

/// `…/buildconfigs/NAME/webhooks/SECRET/TYPE` (docs.openshift.com, "Triggering builds").
const BUILD: &str = "webhooks/";

fn find(text: &[u8], at: usize, needle: &str) -> Option<Range<usize>> {
    let start = at + needle.len();
    if needle == BUILD {
        let end = run(text, start, |b| b.is_ascii_graphic() && !b"/?#\"\\".contains(&b));
        let kinds = ["/generic", "/github", "/gitlab", "/bitbucket"];
        let build = kinds.iter().any(|kind| text[end..].starts_with(kind.as_bytes()));
        return (build && end > start && text[..at].ends_with(b"/")).then_some(start..end);
    }
    let window = &text[..text.len().min(start + 512)];
    let path = |b: u8| b.is_ascii_alphanumeric() || b"/-_@.~".contains(&b);
    let end = run(window, start, path);
    // What kind of hook it is may be told.
    let kind = window[start..end].iter().position(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let secret = start + if needle.starts_with("hooks.slack") { kind } else { 0 };
    (end - secret >= 16).then_some(secret..end)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn of_every_kind() {
        // In pieces, so that no scanner takes this file for a leak.
        let slack = ["T0123ABCD", "B0123ABCD", "abcdefghijklmnop"].join("/");
        check(
            &format!(
                r#"{{"a":"https://hooks.slack.com/services/{slack}","b":["curl https://discord.com/api/webhooks/123456789012345678/Ab-c_d now"]}}"#
            ),
            r#"{"a":"https://hooks.slack.com/services/‹webhook-url›","b":["curl https://discord.com/api/webhooks/‹webhook-url› now"]}"#,
        );
    }

    #[test]
    fn of_builds() {
        let uri = "/apis/build.openshift.io/v1/namespaces/a/buildconfigs/b/webhooks";
        check(
            &format!(r#"{{"requestURI":"{uri}/word/github"}}"#),
            &format!(r#"{{"requestURI":"{uri}/‹webhook-url›/github"}}"#),
        );
        unchanged(&format!(
            r#"{{"requestURI":"{uri}//github","a":"/webhooks/word","b":"/webhooks/a/generi"}}"#
        ));
    }

    #[test]
    fn what_must_not_change() {
        unchanged(r#"{"a":"https://hooks.slack.com/services/","b":"discord.com/api/webhooks/ID"}"#);
    }
}
