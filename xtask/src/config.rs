//! The configuration that `bench` and `e2e` give to the agent: everything, unthinned, to one output.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// The index that all events go to.
pub(crate) const INDEX: &str = "k8s-audit";

/// The output's name.
pub(crate) const OUTPUT: &str = "search";

/// An agent that ships everything to one output.
pub(crate) struct Everything<'a> {
    /// The log to follow; `ship` is told its files on the command line.
    pub(crate) log: &'a Path,
    /// Where the agent keeps its state.
    pub(crate) state: &'a Path,
    /// The file of its key; the agent makes one in `state` where none is given.
    pub(crate) key: Option<&'a Path>,
    /// The output's options, one a line.
    pub(crate) output: &'a str,
    /// Where the agent serves its own state.
    pub(crate) admin: Option<SocketAddr>,
}

impl Everything<'_> {
    /// The file's text.
    pub(crate) fn yaml(&self) -> String {
        // A JSON string is a YAML string.
        let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let key = self.key.map(|key| format!("key_file: {}\n", quoted(key))).unwrap_or_default();
        let mut text = format!(
            "cluster: test\nnode: test\nstate_dir: {}\n{key}\
             inputs:\n  apiserver:\n    type: file\n    path: {}\n\
             filter:\n  packs: []\n  rules: []\n\
             routes:\n  - name: everything\n    index: {INDEX}\n    outputs: [{OUTPUT}]\n    keep: 100%\n\
             outputs:\n  {OUTPUT}:\n",
            quoted(self.state),
            quoted(self.log),
        );
        for line in self.output.lines() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {line}");
        }
        let admin = self.admin.map_or("null".to_owned(), |addr| format!("\"{addr}\""));
        text + &format!("admin: {{listen: {admin}}}\n")
    }
}

/// What differs from one run against Elasticsearch's `_bulk` to another.
pub(crate) struct Setup<'a> {
    /// Where the receiver or server listens.
    pub(crate) endpoint: SocketAddr,
    /// As in [`Everything`].
    pub(crate) log: &'a Path,
    /// As in [`Everything`].
    pub(crate) state: &'a Path,
    /// `gzip` or `zstd`.
    pub(crate) compression: &'a str,
    /// Where the agent serves its own state.
    pub(crate) admin: SocketAddr,
}

impl Setup<'_> {
    /// The file's text.
    pub(crate) fn yaml(&self) -> String {
        let Setup { endpoint, log, state, compression, admin } = *self;
        let output =
            format!("type: elasticsearch\nendpoint: http://{endpoint}\ncompression: {compression}\n");
        Everything { log, state, key: None, output: &output, admin: Some(admin) }.yaml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9200));
        let setup = Setup {
            endpoint: addr,
            log: Path::new("/tmp/a \"b\""),
            state: Path::new("/tmp/state"),
            compression: "zstd",
            admin: addr,
        };
        assert!(setup.yaml().contains("    path: \"/tmp/a \\\"b\\\"\"\n"), "{}", setup.yaml());
        assert!(setup.yaml().contains("    endpoint: http://127.0.0.1:9200\n    compression: zstd\n"));
    }
}
