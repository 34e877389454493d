//! Tokens whose vendor gave them a form of their own: a prefix, an alphabet, a length.
//!
//! Forms are those that the vendors document, or else those that gitleaks' rules agree on
//! (github.com/gitleaks/gitleaks `cmd/generate/config/rules`).

use super::{Needle, Rule, Selector};
use crate::config::Action;
use crate::detect::{begins, is_base64url, is_varied, run, token};
use std::ops::Range;

const fn rule(
    name: &'static str,
    doc: &'static str,
    needles: &'static [Needle],
    find: crate::detect::Find,
) -> Rule {
    Rule { name, doc, selector: Selector::Text { needles, find }, action: Action::Token }
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// A token that begins with its prefix.
macro_rules! prefixed {
    ($keep:expr, $length:expr) => {
        |text, at, prefix| token(text, at, prefix, $keep, $length)
    };
}

/// `docs.github.com`, "About authentication to GitHub"; classic tokens, by who they are for.
pub(super) static GITHUB: Rule = rule(
    "github-token",
    "GitHub tokens",
    &[
        Needle::Begin("ghp_"),
        Needle::Begin("gho_"),
        Needle::Begin("ghu_"),
        Needle::Begin("ghs_"),
        Needle::Begin("ghr_"),
        Needle::Begin("github_pat_"),
    ],
    |text, at, prefix| match prefix {
        "github_pat_" => token(text, at, prefix, |b| alphanumeric(b) || b == b'_', 22..=255),
        _ => token(text, at, prefix, alphanumeric, 36..=255),
    },
);

/// `docs.gitlab.com`, "Token overview", token prefixes.
pub(super) static GITLAB: Rule = rule(
    "gitlab-token",
    "GitLab tokens",
    &[
        Needle::Begin("glpat-"),
        Needle::Begin("gldt-"),
        Needle::Begin("glrt-"),
        Needle::Begin("glcbt-"),
        Needle::Begin("glptt-"),
        Needle::Begin("glft-"),
        Needle::Begin("glimt-"),
        Needle::Begin("glagent-"),
        Needle::Begin("glsoat-"),
    ],
    prefixed!(|b| is_base64url(b) || b == b'.', 20..=300),
);

/// `api.slack.com/concepts/token-types`.
pub(super) static SLACK: Rule = rule(
    "slack-token",
    "Slack tokens and app-level tokens",
    &[Needle::Begin("xox"), Needle::Begin("xapp-")],
    |text, at, prefix| {
        if prefix == "xapp-" {
            return token(text, at, prefix, is_base64url, 20..=300);
        }
        let prefix = text.get(at..at + 5).filter(|p| b"abeprs".contains(&p[3]) && p[4] == b'-')?;
        token(text, at, std::str::from_utf8(prefix).ok()?, is_base64url, 10..=300)
    },
);

/// `docs.aws.amazon.com/IAM`, "IAM identifiers", unique ID prefixes; the secret goes by its name.
pub(super) static AWS: Rule = rule(
    "aws-access-key-id",
    "AWS access key ids",
    &[Needle::Begin("AKIA"), Needle::Begin("ASIA")],
    prefixed!(|b| b.is_ascii_uppercase() || b.is_ascii_digit(), 16..=16),
);

/// `cloud.google.com/docs/authentication/api-keys`; 39 characters.
pub(super) static GOOGLE: Rule =
    rule("google-api-key", "Google API keys", &[Needle::Begin("AIza")], prefixed!(is_base64url, 35..=35));

/// `github.blog/2021-09-23-announcing-npms-new-access-token-format`.
pub(super) static NPM: Rule =
    rule("npm-token", "npm tokens", &[Needle::Begin("npm_")], prefixed!(alphanumeric, 36..=36));

/// `pypi.org/help/#apitoken`: a macaroon in base64url.
pub(super) static PYPI: Rule =
    rule("pypi-token", "PyPI tokens", &[Needle::Begin("pypi-A")], prefixed!(is_base64url, 50..=1000));

/// `docs.stripe.com/keys`: secret and restricted keys. Publishable ones (`pk_`) are public.
pub(super) static STRIPE: Rule = rule(
    "stripe-key",
    "Stripe secret and restricted keys",
    &[
        Needle::Begin("sk_live_"),
        Needle::Begin("sk_test_"),
        Needle::Begin("rk_live_"),
        Needle::Begin("rk_test_"),
    ],
    prefixed!(alphanumeric, 16..=250),
);

/// `docs.sendgrid.com`: `SG.`, 22 characters, a dot, 43 characters.
pub(super) static SENDGRID: Rule =
    rule("sendgrid-key", "SendGrid API keys", &[Needle::Begin("SG.")], |text, at, prefix| {
        let dot = token(text, at, prefix, is_base64url, 22..=22)?.end;
        let end = run(&text[..text.len().min(dot + 45)], dot + 1, is_base64url).min(text.len());
        (text.get(dot) == Some(&b'.') && end == dot + 44).then_some(at..end)
    });

/// `developer.hashicorp.com/vault/docs/concepts/tokens`.
pub(super) static VAULT: Rule = rule(
    "vault-token",
    "Vault service and batch tokens",
    &[Needle::Begin("hvs."), Needle::Begin("hvb.")],
    prefixed!(is_base64url, 24..=400),
);

/// OpenAI keys hold `T3BlbkFJ`; Anthropic's begin with `sk-ant-`.
pub(super) static OPENAI: Rule =
    rule("llm-api-key", "OpenAI and Anthropic API keys", &[Needle::Begin("sk-")], |text, at, prefix| {
        let range = token(text, at, prefix, is_base64url, 40..=300)?;
        let key = &text[range.clone()];
        let known = key.starts_with(b"sk-ant-") || memchr::memmem::find(key, b"T3BlbkFJ").is_some();
        known.then_some(range)
    });

/// `docs.digitalocean.com/reference/api`: 64 hexadecimal digits.
pub(super) static DIGITALOCEAN: Rule = rule(
    "digitalocean-token",
    "DigitalOcean tokens",
    &[Needle::Begin("dop_v1_"), Needle::Begin("doo_v1_"), Needle::Begin("dor_v1_")],
    prefixed!(|b| b.is_ascii_hexdigit(), 64..=64),
);

/// `huggingface.co/docs/hub/security-tokens`.
pub(super) static HUGGING_FACE: Rule = rule(
    "huggingface-token",
    "Hugging Face tokens",
    &[Needle::Begin("hf_")],
    prefixed!(alphanumeric, 34..=40),
);

/// OpenShift's OAuth tokens: `sha256~` and 43 characters (github.com/openshift/oauth-server, `pkg/tokenhash`).
pub(super) static OPENSHIFT: Rule = rule(
    "openshift-token",
    "OpenShift OAuth tokens",
    &[Needle::Begin("sha256~")],
    prefixed!(is_base64url, 43..=43),
);

/// `age-encryption.org/v1`, "The X25519 recipient type": Bech32 of an identity.
pub(super) static AGE: Rule = rule(
    "age-secret-key",
    "age secret keys",
    &[Needle::Begin("AGE-SECRET-KEY-1")],
    prefixed!(alphanumeric, 58..=58),
);

/// `support.atlassian.com`, API tokens: `ATATT3` and a checksum of eight hexadecimal digits after `=`.
pub(super) static ATLASSIAN: Rule =
    rule("atlassian-token", "Atlassian API tokens", &[Needle::Begin("ATATT3")], atlassian);

/// Client secrets of Microsoft Entra ID: three letters, a digit, `Q~`, 31 to 34 letters (as gitleaks has it).
pub(super) static AZURE: Rule = rule(
    "azure-client-secret",
    "client secrets of Microsoft Entra ID",
    &[Needle::Mark("~")],
    |text, at, _| {
        let start = at.checked_sub(5)?;
        let [a, b, c, digit, b'Q'] = text[start..at] else { return None };
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"_-.~".contains(&b);
        let end = run(&text[..text.len().min(at + 40)], at + 1, letter);
        let known = [a, b, c].into_iter().all(letter) && digit.is_ascii_digit() && begins(text, start);
        (known && (31..=34).contains(&(end - at - 1))).then_some(start..end)
    },
);

/// `twilio.com/docs/iam/api-keys`: `SK` and 32 hexadecimal digits. Account ids (`AC…`) are public.
pub(super) static TWILIO: Rule = rule(
    "twilio-key",
    "Twilio API keys",
    &[
        Needle::Begin("SK0"),
        Needle::Begin("SK1"),
        Needle::Begin("SK2"),
        Needle::Begin("SK3"),
        Needle::Begin("SK4"),
        Needle::Begin("SK5"),
        Needle::Begin("SK6"),
        Needle::Begin("SK7"),
        Needle::Begin("SK8"),
        Needle::Begin("SK9"),
        Needle::Begin("SKa"),
        Needle::Begin("SKb"),
        Needle::Begin("SKc"),
        Needle::Begin("SKd"),
        Needle::Begin("SKe"),
        Needle::Begin("SKf"),
    ],
    |text, at, _| token(text, at, "SK", |b| b.is_ascii_hexdigit(), 32..=32),
);

/// Tokens of more vendors, each of which begins with a word that nothing else begins with.
pub(super) static OTHERS: Rule = rule(
    "vendor-token",
    "tokens of Databricks, Docker Hub, Doppler, Grafana, Linear, New Relic, Postman, Pulumi, RubyGems, Sentry, Shopify, \
     Square, Supabase, Tailscale, JFrog, AWS sessions",
    &[
        Needle::Begin("dapi"),
        Needle::Begin("dckr_pat_"),
        Needle::Begin("dckr_oat_"),
        Needle::Begin("dp.pt."),
        Needle::Begin("dp.st."),
        Needle::Begin("glsa_"),
        Needle::Begin("glc_"),
        Needle::Begin("lin_api_"),
        Needle::Begin("NRAK-"),
        Needle::Begin("PMAK-"),
        Needle::Begin("pul-"),
        Needle::Begin("rubygems_"),
        Needle::Begin("sntrys_"),
        Needle::Begin("sntryu_"),
        Needle::Begin("shpat_"),
        Needle::Begin("shpca_"),
        Needle::Begin("shpss_"),
        Needle::Begin("sq0atp-"),
        Needle::Begin("sq0csp-"),
        Needle::Begin("sbp_"),
        Needle::Begin("tskey-"),
        Needle::Begin("AKCp"),
        Needle::Begin("IQoJb3JpZ2lu"),
        Needle::Begin("FwoGZXIvYXdz"),
    ],
    |text, at, prefix| {
        let hex = |b: u8| b.is_ascii_hexdigit();
        match prefix {
            "dapi" => token(text, at, prefix, hex, 32..=32),
            "pul-" | "sbp_" => token(text, at, prefix, hex, 40..=40),
            "rubygems_" => token(text, at, prefix, hex, 48..=48),
            "shpat_" | "shpca_" | "shpss_" => token(text, at, prefix, hex, 32..=32),
            "AKCp" => token(text, at, prefix, alphanumeric, 60..=80),
            // An AWS session token is long base64.
            "IQoJb3JpZ2lu" | "FwoGZXIvYXdz" => {
                token(text, at, prefix, |b| alphanumeric(b) || b"+/=".contains(&b), 100..=4096)
            }
            _ => token(text, at, prefix, |b| is_base64url(b) || b"+/=.".contains(&b), 20..=400),
        }
    },
);

fn atlassian(text: &[u8], at: usize, _: &str) -> Option<Range<usize>> {
    let window = &text[..text.len().min(at + 300)];
    let end = run(window, at, |b| is_base64url(b) || b == b'=');
    (begins(text, at) && end - at >= 60 && is_varied(&text[at..end])).then_some(at..end)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    /// Letters and digits as a token has them; in pieces, so that no scanner takes this file for a leak.
    const BODY: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6a7B8c9D0e1F2";

    #[test]
    fn every_form() {
        let hex = "0123456789abcdef".repeat(4);
        for (rule, text) in [
            ("github-token", format!("ghp_{}", &BODY[..36])),
            ("github-token", format!("ghs_{}", &BODY[..36])),
            ("github-token", format!("github_pat_{}_{}", &BODY[..22], &BODY[..59])),
            ("gitlab-token", format!("glpat-{}", &BODY[..20])),
            ("slack-token", format!("xoxb-1234567890-{}", &BODY[..24])),
            ("aws-access-key-id", format!("AKIA{}", "IOSFODNN7QRSTUVW")),
            ("google-api-key", format!("AIza{}", &BODY[..35])),
            ("npm-token", format!("npm_{}", &BODY[..36])),
            ("pypi-token", format!("pypi-AgEIcHlwaS5vcmc{BODY}")),
            ("stripe-key", format!("sk_live_{}", &BODY[..24])),
            ("stripe-key", format!("rk_test_{}", &BODY[..24])),
            ("sendgrid-key", format!("SG.{}.{}", &BODY[..22], &BODY[..43])),
            ("vault-token", format!("hvs.{}", &BODY[..24])),
            ("llm-api-key", format!("sk-{}T3BlbkFJ{}", &BODY[..20], &BODY[..20])),
            ("llm-api-key", format!("sk-ant-api03-{BODY}")),
            ("digitalocean-token", format!("dop_v1_{hex}")),
            ("huggingface-token", format!("hf_{}", &BODY[..34])),
            ("openshift-token", format!("sha256~{}", &BODY[..43])),
            ("age-secret-key", format!("AGE-SECRET-KEY-1{}", BODY[..58].to_uppercase())),
            ("gitlab-token", format!("glrt-{}", &BODY[..20])),
            ("azure-client-secret", format!("aB38Q~{}", &BODY[..34])),
            ("twilio-key", format!("SK{}", &hex[..32])),
            ("vendor-token", format!("dckr_pat_{}", &BODY[..27])),
            ("vendor-token", format!("glsa_{}_01234567", &BODY[..32])),
            ("vendor-token", format!("dapi{}", &hex[..32])),
            ("vendor-token", format!("shpat_{}", &hex[..32])),
            ("vendor-token", format!("IQoJb3JpZ2lu{BODY}{BODY}")),
            ("atlassian-token", format!("ATATT3xFfGF0{BODY}=01234567")),
        ] {
            check(
                &format!(r#"{{"a":"x {text}, y","b":"u=1\n{text}\n","c":"{{\"k\":\"{text}\"}}"}}"#),
                &format!(r#"{{"a":"x ‹{rule}›, y","b":"u=1\n‹{rule}›\n","c":"{{\"k\":\"‹{rule}›\"}}"}}"#),
            );
        }
    }

    #[test]
    fn what_must_not_change() {
        for text in [
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "ghp_short",
            "high_availability",
            "glpat-",
            "xox",
            "xoxb-",
            "AKIA",
            "MAKIAVELLI",
            "AIzaShort",
            "npm_config_cache",
            "pypi-Archive",
            "sk_live_",
            "task_test_a1B2c3D4e5F6g7H8",
            "SG.US.x",
            "hvs.",
            "disk-ant-",
            "hf_cache",
            "sha256~",
            "8Q~short",
            "SK12",
            "dapi-server",
            "glsa_role",
            "pul-0",
            "shpat_x",
            "AGE-SECRET-KEY-1",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            unchanged(&format!(r#"{{"a":"{text}","b":"x {text} y"}}"#));
        }
    }
}
