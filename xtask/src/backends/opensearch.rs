//! `elasticsearch` against OpenSearch.

use super::server::Server;
use crate::config::INDEX;
use crate::kills::Target;
use crate::{e2e, http, opensearch};
use anyhow::Result;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    if let Some(reason) = opensearch::missing() {
        println!("skipped: {reason}");
        return Ok(());
    }
    e2e::against_opensearch(binary, work, &[])
}

/// A server that is killed. Its translog is synced before it answers, which is the default
/// (`index.translog.durability: request`): what it has taken it has to keep.
struct Killed {
    addr: SocketAddr,
    work: PathBuf,
}

impl Target for Killed {
    fn output(&self) -> Result<String> {
        let endpoint = format!("type: elasticsearch\nendpoint: http://{}\n", self.addr);
        Ok(endpoint + "batch: {bytes: 512KiB, events: 1000, age: 1s}\n")
    }

    fn start(&self) -> Result<Option<Server>> {
        opensearch::start(&self.work, self.addr).map(Some)
    }

    fn prepare(&self) -> Result<()> {
        opensearch::prepare(self.addr, INDEX)
    }

    fn uids(&self) -> Result<Vec<String>> {
        opensearch::uids(self.addr, INDEX)
    }
}

/// The server for `e2e kills`, or why it cannot be had.
pub(crate) fn target(work: &Path) -> Result<Result<Box<dyn Target>, String>> {
    if let Some(reason) = opensearch::missing() {
        return Ok(Err(reason));
    }
    Ok(Ok(Box::new(Killed { addr: http::lasting_addr()?, work: work.to_owned() })))
}
