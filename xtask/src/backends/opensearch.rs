//! `elasticsearch` against OpenSearch.

use crate::{e2e, opensearch};
use anyhow::Result;
use std::path::Path;

pub(crate) fn run(binary: &Path, work: &Path) -> Result<()> {
    if let Some(reason) = opensearch::missing() {
        println!("skipped: {reason}");
        return Ok(());
    }
    e2e::against_opensearch(binary, work, &[])
}
