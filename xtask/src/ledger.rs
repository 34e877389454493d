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

/// Finds the ledger of `output` in what was printed: one JSON document, or several, a line each.
pub(crate) fn read(printed: &[u8], output: &str) -> Result<Ledger> {
    let mut found = None;
    for value in serde_json::Deserializer::from_slice(printed).into_iter::<Value>() {
        let value = value.context("read the ledger")?;
        found = find(&value, output).or(found);
    }
    let ledger = found.with_context(|| format!("the ledger says nothing of the output {output}"))?;
    ensure!(ledger.delivered <= ledger.read, "more was delivered than read: {ledger:?}");
    Ok(ledger)
}

/// The object that belongs to the output, by its key or by its name, wherever it stands.
fn find(value: &Value, output: &str) -> Option<Ledger> {
    let figures = |value: &Value| {
        let figures = value.get("ledger").unwrap_or(value);
        Some(Ledger { read: figures.get("read")?.as_u64()?, delivered: figures.get("delivered")?.as_u64()? })
    };
    match value {
        Value::Object(members) => {
            let named = ["name", "output", "consumer"]
                .iter()
                .any(|key| members.get(*key).is_some_and(|name| name == output));
            let own = if named { figures(value) } else { members.get(output).and_then(figures) };
            own.or_else(|| members.values().find_map(|member| find(member, output)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, output)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_by_key_and_by_name() {
        let want = Ledger { read: 3, delivered: 2 };
        for printed in [
            r#"{"outputs":{"other":{"read":9,"delivered":9},"search":{"read":3,"delivered":2,"open":1}}}"#,
            r#"{"outputs":[{"name":"search","ledger":{"read":3,"delivered":2}}]}"#,
            "{\"progress\":1}\n{\"output\":\"search\",\"read\":3,\"delivered\":2}\n",
        ] {
            assert_eq!(read(printed.as_bytes(), "search").unwrap(), want, "{printed}");
        }
        assert!(read(b"{}", "search").is_err());
        assert!(read(br#"{"search":{"read":1,"delivered":2}}"#, "search").is_err());
    }
}
