//! A throw-away PKI for a control plane on the loopback interface: one authority, the API server's certificate, an
//! administrator's, and the key that signs service account tokens. Made anew for every run, so nothing can outlive it.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of the PKI, all in one folder.
pub(crate) struct Pki {
    folder: PathBuf,
    /// The authority, for clients.
    pub(crate) authority_pem: String,
    administrator: Identity,
    server: Identity,
}

struct Identity {
    certificate: String,
    key: String,
}

impl Pki {
    /// Makes everything in `folder`, for a server at 127.0.0.1.
    pub(crate) fn make(folder: &Path) -> Result<Pki> {
        Pki::make_for(folder, &["kubernetes.default.svc", "localhost"])
    }

    /// The same for a server that has these names too.
    pub(crate) fn make_for(folder: &Path, names: &[&str]) -> Result<Pki> {
        std::fs::create_dir_all(folder).context("make the PKI's folder")?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name("kubernetes", None);
        let key = KeyPair::generate()?;
        let authority_pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let server = sign(&issuer, names, "kube-apiserver", None, ExtendedKeyUsagePurpose::ServerAuth)?;
        let administrator =
            sign(&issuer, &[], "administrator", Some("system:masters"), ExtendedKeyUsagePurpose::ClientAuth)?;
        let tokens = KeyPair::generate()?;
        let pki = Pki { folder: folder.to_owned(), authority_pem, administrator, server };
        for (name, text) in [
            ("ca.crt", &pki.authority_pem),
            ("apiserver.crt", &pki.server.certificate),
            ("apiserver.key", &pki.server.key),
            ("admin.crt", &pki.administrator.certificate),
            ("admin.key", &pki.administrator.key),
            ("sa.key", &tokens.serialize_pem()),
            ("sa.pub", &tokens.public_key_pem()),
        ] {
            std::fs::write(pki.path(name), text).with_context(|| format!("write {name}"))?;
        }
        Ok(pki)
    }

    /// Where a file of it stands.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// TLS as the administrator (`administrator`, in `system:masters`), or as nobody in particular.
    pub(crate) fn client(&self, as_administrator: bool) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority_pem.as_bytes())?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match as_administrator {
            false => builder.with_no_client_auth(),
            true => {
                let (certificate, key) = self.administrator.read()?;
                builder.with_client_auth_cert(certificate, key)?
            }
        };
        Ok(Arc::new(config))
    }

    /// TLS as the server, for whoever comes.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let (certificate, key) = self.server.read()?;
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        Ok(Arc::new(builder.with_no_client_auth().with_single_cert(certificate, key)?))
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())?;
        Ok((vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes())?))
    }
}

fn name(common: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name.push(DnType::CommonName, common);
    name
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    names: &[&str],
    common: &str,
    organisation: Option<&str>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Identity> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.distinguished_name = name(common, organisation);
    params.insert_extended_key_usage(usage);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrators_key_fits_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::make(folder.path()).unwrap();
        pki.client(true).unwrap();
        let other = Pki::make(&folder.path().join("other")).unwrap();
        let mixed =
            Pki { administrator: Identity { key: other.administrator.key, ..pki.administrator }, ..pki };
        assert!(mixed.client(true).is_err());
    }
}
