//! Datadog's wire format, as VictoriaLogs takes it: no Datadog can be had here. It takes what Datadog's agent sends,
//! text beside a time, which is the shape `raw`; the other one is held against a mock in the tests of `ship`.

use super::sent::{Sent, unframe};
use super::{json, victorialogs};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::path::Path;

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    let program = match victorialogs::program()? {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let sent = Sent::prepare(binary, work)?;
    for compression in ["zstd", "gzip"] {
        let name = format!("datadog-{compression}");
        let server = victorialogs::start_with(&program, work, &name, &[])?;
        let output = format!(
            "type: datadog\n\
             endpoint: http://{}/insert/datadog\n\
             auth: {{api_key: any}}\n\
             shape: raw\n\
             tags: {{env: test}}\n\
             compression: {compression}\n",
            server.addr
        );
        sent.ship(binary, work, &name, &output)?;
        let (mut arrived, mut trimmed) = (Vec::new(), HashSet::new());
        for row in victorialogs::events(&server, &sent)? {
            let text = victorialogs::text(&row, "_msg");
            let (uid, body) = unframe(text.as_bytes()).context("a stored event has no uid")?;
            if text[..text.len() - body.len()].contains("\"trimmed\":[") {
                trimmed.insert(body.clone());
            }
            arrived.push((uid, body));
        }
        let same = |sent: &[u8], arrived: &[u8]| match trimmed.contains(arrived) {
            true => json::same_left(sent, arrived),
            false => sent == arrived,
        };
        println!("{name}: {}, {} of them trimmed", sent.compare(&arrived, same)?, trimmed.len());
    }
    Ok(())
}
