//! The shared profile files of the AWS tools. Pure.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files": sections `[name]` in
//! `credentials`, `[profile name]` and `[default]` in `config`; where both have a key, `credentials` wins.

use std::collections::BTreeMap;

/// The keys of one profile.
pub(super) type Profile = BTreeMap<String, String>;

/// The profile `name` of the two files' texts. `None`: neither has it.
pub(super) fn find(config: &str, credentials: &str, name: &str) -> Option<Profile> {
    let long = format!("profile {name}");
    let in_config = section(config, |title| title == long || (name == "default" && title == "default"));
    let in_credentials = section(credentials, |title| title == name);
    if in_config.is_none() && in_credentials.is_none() {
        return None;
    }
    let mut profile = in_config.unwrap_or_default();
    profile.extend(in_credentials.unwrap_or_default());
    Some(profile)
}

fn section(text: &str, wanted: impl Fn(&str) -> bool) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut inside = false;
    for line in text.lines() {
        let nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let title = title.0.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = wanted(&title);
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        // Settings of settings (`s3 =` and indented lines) are none of ours.
        if let (true, false, Some((key, value))) = (inside, nested, line.split_once('=')) {
            let value = value.split(" #").next().unwrap_or_default().trim().to_owned();
            found.get_or_insert_default().insert(key.trim().to_ascii_lowercase(), value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read() {
        let config = "[default]\nregion = eu-central-1\n[profile  audit] # x\nrole_arn=arn:aws:iam::1:role/r\n\
                      source_profile = default\ns3 =\n  max_concurrent_requests = 9\naws_access_key_id = OLD\n";
        let credentials =
            "# keys\n[audit]\naws_access_key_id = NEW # mine\nAWS_secret_access_key=a/b+c=\n\n[other]\nx=y";
        let audit = find(config, credentials, "audit").unwrap();
        assert_eq!(audit["aws_access_key_id"], "NEW");
        assert_eq!(audit["aws_secret_access_key"], "a/b+c=");
        assert_eq!(audit["source_profile"], "default");
        assert!(!audit.contains_key("max_concurrent_requests") && !audit.contains_key("x"));
        assert_eq!(find(config, credentials, "default").unwrap().len(), 1);
        assert!(find(config, credentials, "profile audit").is_none());
        assert!(find("", "", "default").is_none());
    }
}
