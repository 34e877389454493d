//! The programs of a control plane, built from their Go modules (`xtask/apiserver/go.mod` says which) and kept under
//! `target/e2e`.

use crate::backends::tools;
use crate::repo;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Kubernetes' module, whose version stands in `go.mod`.
const MODULE: &str = "k8s.io/kubernetes";

/// Where the programs tell their version from.
const VERSION_PACKAGES: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// Programs that are there.
#[derive(Clone)]
pub(crate) struct Programs {
    /// For example `v1.37.2`.
    pub(crate) version: String,
    pub(crate) apiserver: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Programs {
    /// Builds what is not there yet: about ten minutes on two cores. Or why they cannot be had on this machine.
    pub(crate) fn build() -> Result<Result<Programs, String>> {
        let source = repo::root().join("xtask/apiserver");
        let version = version(&std::fs::read_to_string(source.join("go.mod")).context("read go.mod")?)?;
        let folder = tools::cache()?.join(format!("kubernetes-{version}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let program = |name: &str| folder.join(name);
        let programs = Programs {
            apiserver: program("kube-apiserver"),
            etcd: program("etcd"),
            kubectl: program("kubectl"),
            version,
        };
        let flags = programs.linker_flags();
        for (package, program) in [
            ("./etcd".to_owned(), &programs.etcd),
            (format!("{MODULE}/cmd/kube-apiserver"), &programs.apiserver),
            (format!("{MODULE}/cmd/kubectl"), &programs.kubectl),
        ] {
            if program.is_file() {
                continue;
            }
            println!("building {}", program.display());
            if let Err(reason) = build(&source, &package, &flags, program)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(programs))
    }

    /// What `kubectl version` and `/version` say.
    fn linker_flags(&self) -> String {
        let version = &self.version;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let mut flags = "-s -w".to_owned();
        for package in VERSION_PACKAGES {
            for (name, value) in [
                ("gitVersion", version.as_str()),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
                ("gitCommit", &"0".repeat(40)),
            ] {
                flags += &format!(" -X {package}.{name}={value}");
            }
        }
        flags
    }
}

/// Builds a package into `program`, which is there only if all went well.
fn build(source: &Path, package: &str, flags: &str, program: &Path) -> Result<Result<(), String>> {
    let unfinished = program.with_extension("unfinished");
    let mut go = tools::go();
    go.current_dir(source)
        .args(["build", "-trimpath", "-ldflags", flags, "-o"])
        .arg(&unfinished)
        .arg(package);
    if let Err(reason) = tools::done(&mut go)? {
        return Ok(Err(reason));
    }
    std::fs::rename(&unfinished, program).with_context(|| format!("name {}", program.display()))?;
    Ok(Ok(()))
}

/// The version of Kubernetes that `go.mod` requires.
fn version(go_mod: &str) -> Result<String> {
    let line = go_mod.lines().map(|line| line.trim().trim_start_matches("require "));
    let found = line.filter_map(|line| line.split_once(' ')).find(|(module, _)| *module == MODULE);
    let (_, version) = found.context("go.mod requires no k8s.io/kubernetes")?;
    Ok(version.split(' ').next().unwrap_or(version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_go_mod() {
        assert_eq!(version("module a\n\nrequire k8s.io/kubernetes v1.37.2\n").unwrap(), "v1.37.2");
        assert_eq!(
            version("require (\n\tk8s.io/api v0.1.0\n\tk8s.io/kubernetes v1.40.0 // x\n)").unwrap(),
            "v1.40.0"
        );
        assert!(version("module a\n").is_err());
    }

    #[test]
    fn the_programs_tell_their_version() {
        let none = PathBuf::new;
        let programs =
            Programs { version: "v1.37.2".to_owned(), apiserver: none(), etcd: none(), kubectl: none() };
        let flags = programs.linker_flags();
        assert!(flags.contains("k8s.io/client-go/pkg/version.gitMinor=37 "), "{flags}");
    }
}
