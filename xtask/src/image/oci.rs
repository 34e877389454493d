//! An image as an archive in OCI's layout (OCI Image Format Specification 1.1), made without a daemon and without a base.
//!
//! Invariant: the same files and the same description are the same bytes.

use super::tape::{self, Entry};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Which blobs an archive holds, by digest.
#[derive(Default)]
pub(crate) struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
}

/// What an image says of itself.
pub(crate) struct Description {
    /// As in `org.opencontainers.image.created`, for example `2026-01-02T03:04:05Z`.
    pub(crate) created: String,
    /// The version, by which the image is named too.
    pub(crate) version: String,
    /// Labels of the image, annotations of its manifest.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Layers of an image: what each is for, and what it holds.
pub(crate) type Layers = Vec<(&'static str, Vec<Entry>)>;

impl Layout {
    /// Adds an image for Linux on `architecture`, in Go's words.
    pub(crate) fn add(
        &mut self,
        architecture: &str,
        layers: &Layers,
        description: &Description,
    ) -> Result<()> {
        let (mut descriptors, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
        for (purpose, entries) in layers {
            let archive = tape::write(entries)?;
            diff_ids.push(digest(&archive));
            descriptors.push(self.blob(LAYER, tape::gzip(&archive)?));
            history.push(json!({"created": description.created, "created_by": "cargo xtask image", "comment": purpose}));
        }
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": description.created,
            "config": {
                "User": "65532:65532",
                "Env": ["PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
                "Entrypoint": ["/bin/auditship"],
                "Cmd": ["run", "--config", "/etc/auditship/config.yaml"],
                "WorkingDir": "/",
                "Labels": description.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = self.blob(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": descriptors,
            "annotations": description.labels,
        });
        let mut manifest = self.blob(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        self.manifests.push(manifest);
        Ok(())
    }

    /// The archive, and the digest by which a registry knows the image: that of its manifest, or of an index where
    /// there are several.
    pub(crate) fn finish(mut self, description: &Description) -> Result<(Vec<u8>, String)> {
        ensure!(!self.manifests.is_empty(), "there is no image");
        let mut root = match self.manifests.len() {
            1 => self.manifests[0].clone(),
            _ => {
                let index = json!({
                    "schemaVersion": 2,
                    "mediaType": INDEX,
                    "manifests": self.manifests,
                    "annotations": description.labels,
                });
                self.blob(INDEX, index.to_string().into_bytes())
            }
        };
        let digest = root["digest"].as_str().context("a descriptor has a digest")?.to_owned();
        root["annotations"] = json!({"org.opencontainers.image.ref.name": description.version});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]});
        let mut entries = vec![Entry::folder("blobs", 0o755, 0), Entry::folder("blobs/sha256", 0o755, 0)];
        for (digest, blob) in self.blobs {
            entries.push(Entry::file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, blob));
        }
        entries.push(Entry::file("index.json", 0o644, index.to_string()));
        entries.push(Entry::file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string()));
        Ok((tape::write(&entries)?, digest))
    }

    /// Keeps a blob; gives its descriptor.
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.blobs.insert(digest.clone(), bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }
}

/// `sha256:…`
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An image read back from an archive, each blob checked against its digest and length.
pub(crate) struct Image {
    pub(crate) architecture: String,
    pub(crate) config: Value,
    pub(crate) manifest: Value,
    /// All files, lower layers first.
    pub(crate) files: Vec<Entry>,
    /// What a registry would send of it.
    pub(crate) bytes: u64,
}

/// All images of an archive, and the digest of the whole.
pub(crate) fn read(archive: &[u8]) -> Result<(Vec<Image>, String)> {
    let blobs: BTreeMap<String, Vec<u8>> =
        tape::read(archive)?.into_iter().map(|entry| (entry.path, entry.content)).collect();
    let parsed = |bytes: &[u8]| -> Result<Value> { serde_json::from_slice(bytes).context("read a blob") };
    let file = |name: &str| blobs.get(name).with_context(|| format!("the archive has no {name}"));
    ensure!(parsed(file("oci-layout")?)?["imageLayoutVersion"] == "1.0.0", "another layout");
    let get = |descriptor: &Value, media_type: &str| -> Result<&Vec<u8>> {
        let name = descriptor["digest"].as_str().context("a descriptor has no digest")?;
        ensure!(descriptor["mediaType"] == media_type, "{name} is no {media_type}: {descriptor}");
        let blob = file(&format!("blobs/{}", name.replace(':', "/")))?;
        ensure!(digest(blob) == name, "{name} has another digest");
        ensure!(descriptor["size"] == blob.len(), "{name} has another size");
        Ok(blob)
    };
    let index = parsed(file("index.json")?)?;
    let root = &index["manifests"][0];
    let manifests = match root["mediaType"] == INDEX {
        true => parsed(get(root, INDEX)?)?["manifests"].as_array().cloned().unwrap_or_default(),
        false => vec![root.clone()],
    };
    let mut images = Vec::new();
    for descriptor in &manifests {
        let manifest_blob = get(descriptor, MANIFEST)?;
        let manifest = parsed(manifest_blob)?;
        let config_blob = get(&manifest["config"], CONFIG)?;
        let config = parsed(config_blob)?;
        let (mut files, mut bytes) = (Vec::new(), (manifest_blob.len() + config_blob.len()) as u64);
        let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(layers.len() == diff_ids.len(), "the configuration names other layers than the manifest");
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let packed = get(layer, LAYER)?;
            let mut tar = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut tar)?;
            ensure!(*diff_id == digest(&tar), "a layer is another one than the configuration says");
            bytes += packed.len() as u64;
            files.extend(tape::read(&tar)?);
        }
        let architecture = config["architecture"].as_str().context("no architecture")?.to_owned();
        ensure!(descriptor["platform"]["architecture"] == architecture.as_str(), "the platforms differ");
        images.push(Image { architecture, config, manifest, files, bytes });
    }
    Ok((images, root["digest"].as_str().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let labels = BTreeMap::from([("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())]);
        Description { created: "2026-01-02T03:04:05Z".to_owned(), version: "1.2.3".to_owned(), labels }
    }

    fn archive(architectures: &[&str], content: &str) -> (Vec<u8>, String) {
        let mut layout = Layout::default();
        for architecture in architectures {
            let base = vec![Entry::folder("etc", 0o755, 0), Entry::file("etc/group", 0o644, "g")];
            let layers = vec![
                ("base", base),
                ("program", vec![Entry::file("bin/auditship", 0o755, format!("{content}-{architecture}"))]),
            ];
            layout.add(architecture, &layers, &description()).unwrap();
        }
        layout.finish(&description()).unwrap()
    }

    #[test]
    fn the_same_input_is_the_same_archive() {
        let (first, digest) = archive(&["amd64"], "x");
        assert_eq!(archive(&["amd64"], "x"), (first, digest.clone()));
        assert_ne!(archive(&["amd64"], "y").1, digest);
    }

    #[test]
    fn what_is_written_is_read() {
        for architectures in [&["amd64"][..], &["amd64", "arm64"]] {
            let (bytes, digest) = archive(architectures, "x");
            let (images, found) = read(&bytes).unwrap();
            assert_eq!(found, digest);
            let told: Vec<&str> = images.iter().map(|image| image.architecture.as_str()).collect();
            assert_eq!(told, architectures);
            let paths: Vec<&str> = images[0].files.iter().map(|entry| entry.path.as_str()).collect();
            assert_eq!(paths, ["etc/", "etc/group", "bin/auditship"]);
            assert_eq!(images[0].config["config"]["Labels"]["org.opencontainers.image.version"], "1.2.3");
        }
    }

    #[test]
    fn a_changed_blob_is_noticed() {
        let (mut bytes, _) = archive(&["amd64"], "x");
        let at = memchr::memmem::find(&bytes, b"\"architecture\":\"amd64\",\"config\"").unwrap();
        bytes[at + 16] = b'A';
        assert!(read(&bytes).err().unwrap().to_string().contains("another digest"));
    }
}
