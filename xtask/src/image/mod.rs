//! `cargo xtask image`: the image as an OCI archive, without a daemon and without a base; `cargo xtask dist`: packages,
//! and the list of what is in them. docs/release.md tells what becomes of them.

mod dist;
pub(crate) mod inside;
mod oci;
mod sbom;
mod tape;

use crate::repo;
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dist::Origin;
use oci::{Description, Layers, Layout};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tape::Entry;

/// Who the agent is unless somebody says otherwise.
const USER: u32 = 65532;

/// Where the authorities' certificates stand, for rustls and everybody else.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The most that a registry sends of an image.
const IMAGE_MAX_BYTES: u64 = 15_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A static binary that is there already; without any, this machine's is built. Again for a second architecture.
    #[arg(long, value_name = "ARCH=PATH", value_parser = given)]
    binary: Vec<(String, PathBuf)>,
    /// Where the archive goes, instead of target/artifacts.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct DistArgs {
    /// For which architectures, instead of this machine's.
    #[arg(long, value_name = "ARCH")]
    arch: Vec<String>,
    /// Only the binaries: another machine makes the packages.
    #[arg(long)]
    binary_only: bool,
}

/// `amd64=target/auditship`
fn given(text: &str) -> Result<(String, PathBuf), String> {
    let (architecture, path) = text.split_once('=').ok_or("expected for example amd64=target/auditship")?;
    match dist::ARCHITECTURES.iter().any(|(name, _)| *name == architecture) {
        true => Ok((architecture.to_owned(), PathBuf::from(path))),
        false => Err(format!("unknown architecture {architecture}: amd64 or arm64")),
    }
}

/// Makes the archive, and says its digest and how long it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut binaries = args.binary.clone();
    if binaries.is_empty() {
        match dist::binary(dist::native())? {
            Ok(binary) => binaries.push((dist::native().to_owned(), binary)),
            Err(reason) => {
                println!("skipped: {reason}");
                return Ok(());
            }
        }
    }
    let origin = Origin::of_this_tree()?;
    let (archive, digest) = make(&binaries, &origin)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => folder()?.join(format!("auditship-{}.oci.tar", origin.version)),
    };
    std::fs::write(&out, &archive).with_context(|| format!("write {}", out.display()))?;
    for image in oci::read(&archive)?.0 {
        ensure!(
            image.bytes <= IMAGE_MAX_BYTES,
            "the image is {} bytes, more than {IMAGE_MAX_BYTES}",
            image.bytes
        );
        println!("linux/{}: {:.2} MB compressed", image.architecture, image.bytes as f64 / 1e6);
    }
    println!("{}\n{digest}", out.display());
    Ok(())
}

/// Makes binaries, packages and the bill of materials in `target/artifacts`.
pub(crate) fn run_dist(args: &DistArgs) -> Result<()> {
    let (origin, folder) = (Origin::of_this_tree()?, folder()?);
    let native = vec![dist::native().to_owned()];
    let mut made = Vec::new();
    for architecture in if args.arch.is_empty() { &native } else { &args.arch } {
        let binary = match dist::binary(architecture)? {
            Ok(binary) => binary,
            Err(reason) => {
                println!("skipped: {architecture}: {reason}");
                continue;
            }
        };
        let copy = folder.join(format!("auditship-linux-{architecture}"));
        std::fs::copy(&binary, &copy).with_context(|| format!("write {}", copy.display()))?;
        made.push(copy);
        if !args.binary_only {
            // Completions and pages are the same for every architecture.
            let runs = match architecture == dist::native() {
                true => binary.clone(),
                false => dist::binary(dist::native())?.map_err(anyhow::Error::msg)?,
            };
            let (name, bytes) = dist::package(&binary, &runs, architecture, &origin)?;
            made.push(folder.join(name));
            std::fs::write(&made[made.len() - 1], bytes).context("write the package")?;
        }
    }
    if !args.binary_only {
        made.push(folder.join(format!("auditship-{}.cdx.json", origin.version)));
        std::fs::write(&made[made.len() - 1], sbom::document(&origin)?)
            .context("write the bill of materials")?;
    }
    for path in made {
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        println!("{}  {} ({:.1} MB)", oci::digest(&bytes), path.display(), bytes.len() as f64 / 1e6);
    }
    Ok(())
}

/// Where everything goes that is made, and nothing else: `target/dist` has what cargo keeps of that profile.
fn folder() -> Result<PathBuf> {
    let folder = repo::target()?.join("artifacts");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// The archive of the image with these binaries, and its digest.
fn make(binaries: &[(String, PathBuf)], origin: &Origin) -> Result<(Vec<u8>, String)> {
    let description = description(origin);
    let base = base(origin)?;
    let mut layout = Layout::default();
    for (architecture, path) in binaries {
        let program = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        check_static(&program).with_context(|| format!("{} is not fit for an image", path.display()))?;
        let program = vec![Entry::folder("bin", 0o755, 0), Entry::file("bin/auditship", 0o755, program)];
        let layers: Layers =
            vec![("certificates, users, what is in it", base.clone()), ("the program", program)];
        layout.add(architecture, &layers, &description)?;
    }
    layout.finish(&description)
}

fn description(origin: &Origin) -> Description {
    let mut labels = BTreeMap::new();
    for (name, value) in [
        ("title", "auditship"),
        (
            "description",
            "Ships the audit log of the Kubernetes API server, redacted, routed and accounted for",
        ),
        ("version", &origin.version),
        ("revision", &origin.revision),
        ("created", &origin.created),
        ("source", &origin.source),
        ("url", &origin.source),
        ("documentation", &format!("{}/blob/v{}/README.md", origin.source, origin.version)),
        ("licenses", "Apache-2.0"),
    ] {
        labels.insert(format!("org.opencontainers.image.{name}"), value.to_owned());
    }
    Description { created: origin.created.clone(), version: origin.version.clone(), labels }
}

/// What an image without a base lacks, and no more.
fn base(origin: &Origin) -> Result<Vec<Entry>> {
    let folder = |path: &str| Entry::folder(path, 0o755, 0);
    let file = |path: &str, text: String| Entry::file(path, 0o644, text);
    let license = std::fs::read_to_string(repo::root().join("LICENSE")).context("read LICENSE")?;
    Ok(vec![
        folder("etc"),
        // Where the configuration and the state are mounted. The latter is the agent's own where nothing is.
        folder("etc/auditship"),
        file("etc/group", format!("root:x:0:\nauditship:x:{USER}:\n")),
        // Names are looked up without it too; this says how, whatever the C library's default is.
        file("etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
        file("etc/passwd", format!("root:x:0:0:root:/:/none\nauditship:x:{USER}:{USER}:auditship:/:/none\n")),
        folder("etc/ssl"),
        folder("etc/ssl/certs"),
        file(CERTIFICATES, certificates()),
        folder("usr"),
        folder("usr/share"),
        folder("usr/share/doc"),
        folder("usr/share/doc/auditship"),
        file("usr/share/doc/auditship/LICENSE", license),
        file("usr/share/doc/auditship/sbom.cdx.json", sbom::document(origin)?),
        folder("var"),
        folder("var/lib"),
        Entry::folder("var/lib/auditship", 0o700, USER),
    ])
}

/// The authorities that Mozilla trusts for servers, as the version in `Cargo.lock` has them: the same on every machine.
fn certificates() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem += "-----BEGIN CERTIFICATE-----\n";
        for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
            pem += &String::from_utf8_lossy(line);
            pem += "\n";
        }
        pem += "-----END CERTIFICATE-----\n";
    }
    pem
}

/// There is no dynamic linker in the image: the program must not ask for one.
fn check_static(program: &[u8]) -> Result<()> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Result<u64> {
        let field = program.get(at..at + bytes).context("it is cut")?;
        Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    ensure!(program.starts_with(b"\x7fELF\x02\x01"), "it is no 64-bit little-endian ELF program");
    let (headers, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    for header in (0..count).map(|header| headers + header * size) {
        ensure!(number(header, 4)? != u64::from(INTERPRETER), "it is linked dynamically");
    }
    Ok(())
}

/// Writes the files of an image below `root`, with their owners where this user may give them.
fn unpack(files: &[Entry], root: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    for entry in files {
        let path = root.join(&entry.path);
        match entry.is_folder() {
            true => std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?,
            false => {
                std::fs::write(&path, &entry.content).with_context(|| format!("write {}", path.display()))?
            }
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(entry.mode))?;
        chown(&path, Some(entry.owner), Some(entry.owner))
            .with_context(|| format!("own {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn certificates_are_read_as_they_were_written() {
        let read: Vec<_> =
            CertificateDer::pem_slice_iter(certificates().as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read, webpki_root_certs::TLS_SERVER_ROOT_CERTS);
        assert!(read.len() > 100, "{}", read.len());
    }

    #[test]
    fn a_program_that_needs_a_linker_is_refused() {
        let dynamic = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check_static(&dynamic).unwrap_err().to_string(), "it is linked dynamically");
        assert!(check_static(b"#!/bin/sh").is_err());
    }

    #[test]
    fn binaries_are_given_by_architecture() {
        assert_eq!(given("arm64=a=b").unwrap(), ("arm64".to_owned(), PathBuf::from("a=b")));
        assert!(given("x86_64=a").is_err() && given("amd64").is_err());
    }

    #[test]
    fn nothing_in_the_base_is_special() {
        let origin = Origin {
            version: "1.2.3".to_owned(),
            revision: "r".to_owned(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            source: "https://example.com/a".to_owned(),
        };
        let base = base(&origin).unwrap();
        assert!(
            base.iter().all(|entry| entry.mode & 0o7022 == 0),
            "{:?}",
            base.iter().map(|entry| (&entry.path, entry.mode))
        );
        // Each file's folder stands before it.
        for (at, entry) in base.iter().enumerate() {
            let folder =
                entry.path.trim_end_matches('/').rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
            assert!(
                folder.is_none_or(|folder| base[..at].iter().any(|other| other.path == folder)),
                "{}",
                entry.path
            );
        }
    }
}
