//! What is released: a static binary, alike wherever it is built with the same tools; packages of it with completions and
//! manual pages; and the list of what is in it.

use super::sbom;
use super::tape::{self, Entry};
use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Architectures in Go's words, which registries use, and as Rust's targets.
pub(crate) const ARCHITECTURES: [(&str, &str); 2] =
    [("amd64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")];

/// That of this machine.
pub(crate) fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// What of a commit goes into what is made from it.
pub(crate) struct Origin {
    /// The workspace's version.
    pub(crate) version: String,
    /// The commit, and whether something was changed since.
    pub(crate) revision: String,
    /// When it was made, as RFC 3339. `SOURCE_DATE_EPOCH` decides, then the commit.
    pub(crate) created: String,
    /// Where the source is.
    pub(crate) source: String,
}

impl Origin {
    pub(crate) fn of_this_tree() -> Result<Origin> {
        let metadata = repo::metadata()?;
        let packages = metadata["packages"].as_array().context("cargo metadata has packages")?;
        let agent =
            packages.iter().find(|package| package["name"] == "auditship").context("the agent's package")?;
        let text = |name: &str| agent[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let git = |arguments: &[&str]| {
            let output = Command::new("git").current_dir(repo::root()).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        let changed =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|list| !list.is_empty());
        let revision = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().or_else(|| git(&["log", "-1", "--format=%ct"]));
        let seconds = seconds.as_deref().unwrap_or("0").parse().context("understand SOURCE_DATE_EPOCH")?;
        Ok(Origin {
            version: text("version")?,
            revision: if changed { revision + "-dirty" } else { revision },
            created: jiff::Timestamp::from_second(seconds)?.to_string(),
            source: env!("CARGO_PKG_REPOSITORY").to_owned(),
        })
    }
}

/// Builds the static binary for an architecture; or why it cannot be built here.
pub(crate) fn binary(architecture: &str) -> Result<Result<PathBuf, String>> {
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
    let Some((_, target)) = known else { bail!("unknown architecture {architecture}: amd64 or arm64") };
    let mut cargo = repo::cargo();
    if architecture != native() {
        if let Some(reason) = no_cross(target) {
            return Ok(Err(reason));
        }
        let (upper, lower) = (target.to_uppercase().replace('-', "_"), target.replace('-', "_"));
        let compiler = compiler(target);
        cargo.env(format!("CARGO_TARGET_{upper}_LINKER"), &compiler).env(format!("CC_{lower}"), &compiler);
    }
    let root = repo::root().canonicalize().context("find the repository")?;
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("there is no HOME")?).join(".cargo"),
    };
    // Paths of this machine would make it another binary elsewhere.
    let places = [(root.as_path(), "/auditship"), (home.as_path(), "/cargo")];
    let mut rust = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let mut c = Vec::new();
    for (from, to) in places {
        rust.push(format!("--remap-path-prefix={}={to}", from.display()));
        c.push(format!("-ffile-prefix-map={}={to}", from.display()));
    }
    // Paths may hold spaces, so the encoded form.
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env("CFLAGS", c.join(" "))
        .env_remove("RUSTFLAGS");
    cargo.args(["build", "--profile", "dist", "--locked", "--package", "auditship", "--target", target]);
    repo::run(&mut cargo)?;
    let binary = repo::target()?.join(target).join("dist/auditship");
    ensure!(binary.is_file(), "there is no {}", binary.display());
    Ok(Ok(binary))
}

fn compiler(target: &str) -> String {
    format!("{}-gcc", target.replace("-unknown", ""))
}

/// What is missing to build for another architecture than this machine's.
fn no_cross(target: &str) -> Option<String> {
    let compiler = compiler(target);
    if !Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Some(format!("{compiler} is not installed"));
    }
    let mut rustc = Command::new("rustc");
    let libraries = rustc.args(["--print", "target-libdir", "--target", target]).output().ok()?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&libraries.stdout).trim().to_owned());
    (!libraries.is_dir())
        .then(|| format!("Rust's standard library for {target} is not installed: rustup target add {target}"))
}

/// A package for Linux on `architecture`: the binary, completions, manual pages, and what one should read. The binary is
/// run for the latter, so it must be one of this machine's, `runs`.
pub(crate) fn package(
    binary: &Path,
    runs: &Path,
    architecture: &str,
    origin: &Origin,
) -> Result<(String, Vec<u8>)> {
    let name = format!("auditship-{}-linux-{architecture}", origin.version);
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut entries = vec![
        Entry::folder(&name, 0o755, 0),
        Entry::file(&format!("{name}/auditship"), 0o755, read(binary)?),
        Entry::file(&format!("{name}/sbom.cdx.json"), 0o644, sbom::document(origin)?),
    ];
    for page in ["LICENSE", "README.md", "CHANGELOG.md"] {
        entries.push(Entry::file(&format!("{name}/{page}"), 0o644, read(&repo::root().join(page))?));
    }
    entries.push(Entry::folder(&format!("{name}/completions"), 0o755, 0));
    for (shell, file) in [("bash", "auditship.bash"), ("zsh", "_auditship"), ("fish", "auditship.fish")] {
        let text = repo::output(Command::new(runs).args(["completions", shell]).stdin(Stdio::null()))?;
        entries.push(Entry::file(&format!("{name}/completions/{file}"), 0o644, text));
    }
    entries.push(Entry::folder(&format!("{name}/man"), 0o755, 0));
    let pages = tempfile::tempdir().context("make a folder")?;
    repo::run(Command::new(runs).args(["man", "--out"]).arg(pages.path()).stdin(Stdio::null()))?;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(pages.path())
        .and_then(|pages| pages.map(|page| page.map(|page| page.path())).collect())
        .context("list the manual pages")?;
    paths.sort();
    for path in paths {
        let page = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        entries.push(Entry::file(&format!("{name}/man/{page}"), 0o644, read(&path)?));
    }
    Ok((format!("{name}.tar.gz"), tape::gzip(&tape::write(&entries)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Stands for the agent: says which shell it was asked for, and writes two pages.
    const PROGRAM: &str = "#!/bin/sh\ncase $1 in\ncompletions) echo \"for $2\" ;;\n\
        man) echo b > $3/auditship-run.1; echo a > $3/auditship.1 ;;\nesac\n";

    #[test]
    fn a_package_has_everything_below_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let origin = Origin {
            version: "1.2.3".to_owned(),
            revision: String::new(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            source: String::new(),
        };
        let (name, bytes) = package(&program, &program, "arm64", &origin).unwrap();
        assert_eq!(name, "auditship-1.2.3-linux-arm64.tar.gz");
        let mut archive = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut archive).unwrap();
        let entries = tape::read(&archive).unwrap();
        let files = entries.iter().filter(|entry| !entry.is_folder());
        let told: Vec<(&str, u32)> = files
            .map(|entry| (entry.path.strip_prefix("auditship-1.2.3-linux-arm64/").unwrap(), entry.mode))
            .collect();
        let want = [
            ("auditship", 0o755),
            ("sbom.cdx.json", 0o644),
            ("LICENSE", 0o644),
            ("README.md", 0o644),
            ("CHANGELOG.md", 0o644),
            ("completions/auditship.bash", 0o644),
            ("completions/_auditship", 0o644),
            ("completions/auditship.fish", 0o644),
            ("man/auditship-run.1", 0o644),
            ("man/auditship.1", 0o644),
        ];
        assert_eq!(told, want);
        let zsh = entries.iter().find(|entry| entry.path.ends_with("/_auditship")).unwrap();
        assert_eq!(zsh.content, b"for zsh\n");
    }
}
