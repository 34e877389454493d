//! `dir`, whose server is the file system: the agent alone is killed.

use super::s3;
use super::server::Server;
use crate::kills::Target;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

struct Killed {
    archive: PathBuf,
}

impl Target for Killed {
    fn output(&self) -> Result<String> {
        let path = serde_json::Value::from(self.archive.to_string_lossy());
        Ok(format!("type: dir\npath: {path}\nbatch: {{bytes: 128KiB, age: 1s}}\n"))
    }

    fn start(&self) -> Result<Option<Server>> {
        Ok(None)
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn uids(&self) -> Result<Vec<String>> {
        let (mut uids, mut folders) = (Vec::new(), vec![self.archive.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).context("list the archive")? {
                let path = entry.context("list the archive")?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let whole = path.to_string_lossy().ends_with(".ndjson.zst");
                ensure!(whole, "the archive holds a file that is not finished: {}", path.display());
                s3::each_record(&path, &mut |uid, _| uids.push(uid))?;
            }
        }
        Ok(uids)
    }
}

/// The directory for `e2e kills`.
pub(crate) fn target(work: &Path) -> Box<dyn Target> {
    Box::new(Killed { archive: work.join("archive") })
}
