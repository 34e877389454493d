//! The configuration that `bench` and `e2e` give to the agent: everything, unthinned, to one output.

use std::net::SocketAddr;
use std::path::Path;

/// The index that all events go to.
pub(crate) const INDEX: &str = "k8s-audit";

/// The output's name.
pub(crate) const OUTPUT: &str = "search";

/// What differs from one run to another.
pub(crate) struct Setup<'a> {
    /// Where the receiver or server listens.
    pub(crate) endpoint: SocketAddr,
    /// The log to follow; `ship` is told its files on the command line.
    pub(crate) log: &'a Path,
    /// Where the agent keeps its state.
    pub(crate) state: &'a Path,
    /// `gzip` or `zstd`.
    pub(crate) compression: &'a str,
    /// Where the agent serves its own state.
    pub(crate) admin: SocketAddr,
}

impl Setup<'_> {
    /// The file's text.
    pub(crate) fn yaml(&self) -> String {
        // A JSON string is a YAML string.
        let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let (log, state) = (quoted(self.log), quoted(self.state));
        let Setup { endpoint, compression, admin, .. } = self;
        format!(
            "cluster: test\n\
             node: test\n\
             state_dir: {state}\n\
             inputs:\n  apiserver:\n    type: file\n    path: {log}\n\
             filter:\n  packs: []\n  rules: []\n\
             routes:\n  - name: everything\n    index: {INDEX}\n    outputs: [{OUTPUT}]\n    keep: 100%\n\
             outputs:\n  {OUTPUT}:\n    type: elasticsearch\n    endpoint: http://{endpoint}\n    compression: {compression}\n\
             admin:\n  listen: {admin}\n"
        )
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
