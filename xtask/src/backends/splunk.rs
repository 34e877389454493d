//! Splunk's wire format, as VictoriaLogs takes it: no Splunk can be had here. Acknowledgements and reply codes are held
//! against a mock in the tests of `ship`.

use super::sent::Sent;
use super::{json, victorialogs};
use anyhow::Result;
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
    // The event stays one field instead of a field for each of its members.
    let server = victorialogs::start_with(&program, work, "splunk", &["-splunk.preserveJSONKeys=event"])?;
    let output = format!(
        "type: splunk_hec\n\
         endpoint: http://{}/insert/splunk\n\
         auth: {{token: any}}\n",
        server.addr
    );
    sent.ship(binary, work, "splunk", &output)?;
    let (mut arrived, mut trimmed) = (Vec::new(), HashSet::new());
    for row in victorialogs::events(&server, &sent)? {
        let body = victorialogs::text(&row, "_msg").into_bytes();
        if row.contains_key("fields.trimmed") {
            trimmed.insert(body.clone());
        }
        arrived.push((victorialogs::text(&row, "fields.uid"), body));
    }
    // It writes every string anew.
    let same = |sent: &[u8], arrived: &[u8]| match trimmed.contains(arrived) {
        true => json::same_left(sent, arrived),
        false => json::canonical(sent) == json::canonical(arrived),
    };
    println!("splunk: {}, {} of them trimmed", sent.compare(&arrived, same)?, trimmed.len());
    Ok(())
}
