//! Links between the pages of this repository: each leads to a file that is there, and to a heading that it has.
//!
//! Headings become anchors as on GitHub: lower case, spaces as dashes, of the rest only letters, digits, `-` and `_`; a
//! repeated one gets a number (github.com/gjtorikian/html-pipeline `lib/html/pipeline/toc_filter.rb`). Links to other
//! sites are not looked at: a test must not need a network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The links of the page `text`, without those that leave the repository.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = code_free(line);
        while let Some(at) = rest.find("](") {
            let after = rest.split_off(at + 2);
            let Some(end) = after.find(')') else { break };
            let target = after[..end].split(' ').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
            rest = after[end..].to_owned();
        }
    }
    found
}

/// Lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// `line` without what stands in backquotes.
fn code_free(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors that the page `text` has.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
        let anchor: String =
            title.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    anchors
}

/// What is wrong with the links of the page at `path`. `read` gives a page's text, an empty one for another file or a
/// directory, or `None` where there is nothing.
pub(crate) fn findings(path: &str, text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for link in links(text) {
        let (file, anchor) =
            link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
        let target = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
        let Some(page) = target.as_deref().and_then(&read) else {
            findings.push(format!("{path}: the link {link} leads nowhere"));
            continue;
        };
        if let Some(anchor) = anchor
            && !anchors(&page).contains(anchor)
        {
            findings.push(format!(
                "{path}: the link {link} leads to no heading of {}",
                target.unwrap_or_default()
            ));
        }
    }
    findings
}

/// `link` from the page `from`, relative to the root; `None`: it leads out of the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => path.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        findings("docs/a.md", text, |path| match path {
            "docs/a.md" => Some(text.to_owned()),
            "docs/b.md" => Some("# One, two: `three`\n## x\n## x\n```\n# no heading\n```\n".to_owned()),
            "README.md" | "docs" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn what_leads_somewhere() {
        let text = "# Here\n[a](#here) [b](b.md) [c](b.md#one-two-three), [d](../README.md \"title\")\n[e](b.md#x-1) [f](../docs)";
        assert_eq!(found(text), [""; 0]);
        assert_eq!(found("[a](https://example.com/x#y) `[b](c)`\n```\n[d](e)\n```\n"), [""; 0]);
    }

    #[test]
    fn what_leads_nowhere() {
        for link in ["c.md", "b.md#two", "#there", "../../x", "/b.md", "b.md#no-heading", "b.md#x-2"] {
            let found = found(&format!("see [it]({link}) there"));
            assert!(matches!(&found[..], [one] if one.contains(link)), "{link}: {found:?}");
        }
    }
}
