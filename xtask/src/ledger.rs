//! The ledger that `auditship ship --json` prints, as far as `bench` and `e2e` check it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One output's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Lines read.
    pub(crate) read: u64,
    /// Lines that the output has.
    pub(crate) delivered: u64,
}

/// Reads the ledger of `output` from what was printed.
pub(crate) fn read(printed: &[u8], output: &str) -> Result<Ledger> {
    let value: Value = serde_json::from_slice(printed).context("read the ledger")?;
    let account = &value["consumers"][output];
    let figure = |value: &Value| {
        value.as_u64().with_context(|| format!("the ledger says nothing of the output {output}"))
    };
    let ledger =
        Ledger { read: figure(&account["read"]["lines"])?, delivered: figure(&account["delivered"])? };
    ensure!(ledger.delivered <= ledger.read, "more was delivered than read: {ledger:?}");
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_one_output() {
        let printed = br#"{"consumers":{"search":{"read":{"lines":3,"bytes":9},"delivered":2}}}"#;
        assert_eq!(read(printed, "search").unwrap(), Ledger { read: 3, delivered: 2 });
        assert!(read(printed, "other").is_err());
        assert!(read(br#"{"consumers":{"search":{"read":{"lines":1},"delivered":2}}}"#, "search").is_err());
    }
}
