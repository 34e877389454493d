//! The door to certificate files: TLS as an output asks for it, and what to say when it fails.
//!
//! Whom to trust, as whom to appear, and under which name. The trusted authorities are the system's and those of
//! `ca_file`. A refused certificate is described by its subject, issuer, dates and names, so that one can tell
//! whose it is. Never shown: key material. TLS is rustls with ring.
#![expect(clippy::disallowed_methods, reason = "a door: reads certificates and keys")]

use crate::client::OpenError;
use crate::x509;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error,
    OtherError, RootCertStore, SignatureScheme, WantsVerifier,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// No file of certificates or keys is larger; the system's bundle has some 200 KiB.
const FILE_MAX: u64 = 4 << 20;

/// Whom to trust, and as whom to appear.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate to appear with (its chain behind it) and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the endpoint's certificate must be for, instead of the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
    /// Whether to accept any certificate.
    pub dangerously_accept_invalid_certs: bool,
}

/// The content of the files, as it was read at one moment.
pub(crate) struct Material {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsOptions {
    /// Whether it depends on files.
    pub(crate) fn has_files(&self) -> bool {
        self.ca_file.is_some() || self.identity.is_some()
    }

    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Material, OpenError> {
        let ca = self.ca_file.as_deref().map(read).transpose()?;
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok(Material { ca, identity })
    }

    /// What to connect with to `host`. Sets `asked` when a server asks who we are.
    pub(crate) fn config(
        &self,
        material: &Material,
        host: &str,
        asked: &Arc<AtomicBool>,
    ) -> Result<ClientConfig, OpenError> {
        let provider = Arc::new(ring::default_provider());
        let trusted = if self.dangerously_accept_invalid_certs {
            None
        } else {
            Some(self.trusted(material, provider.clone())?)
        };
        let expected = self.server_name.clone().zip(ServerName::try_from(host.to_owned()).ok());
        let verifier = Verifier { trusted, expected, provider: provider.clone() };
        let key = match (&self.identity, &material.identity) {
            (Some((certificate_file, key_file)), Some((certificate, key))) => {
                let chain = certificates(certificate_file, certificate)?;
                let key = private_key(key_file, key)?;
                let key = CertifiedKey::from_der(chain, key, &provider);
                Some(Arc::new(key.map_err(|error| OpenError::Identity {
                    certificate: certificate_file.clone(),
                    key: key_file.clone(),
                    problem: match error {
                        Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
                        other => other.to_string(),
                    },
                })?))
            }
            _ => None,
        };
        let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_client_cert_resolver(Arc::new(Identity { key, asked: asked.clone() }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn trusted(
        &self,
        material: &Material,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<WebPkiServerVerifier>, OpenError> {
        let mut roots = RootCertStore::empty();
        if let (Some(path), Some(pem)) = (&self.ca_file, &material.ca) {
            for certificate in certificates(path, pem)? {
                let problem = |error: Error| OpenError::Certificates {
                    path: path.clone(),
                    problem: format!("one of them is no certificate of an authority: {error}"),
                };
                roots.add(certificate).map_err(problem)?;
            }
        }
        // What the system has and rustls cannot read is left out: it has always some.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let why = "the system has no certificate authorities: install them (ca-certificates), or set `tls.ca_file`";
            return Err(OpenError::Client(why.to_owned()));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| OpenError::Client(error.to_string()))
    }
}

impl Material {
    /// Of the content of all files, to tell whether it has changed.
    pub(crate) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let (certificate, key) = self.identity.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
        for file in [self.ca.as_ref(), certificate, key] {
            let file = file.map(Vec::as_slice).unwrap_or_default();
            hasher.update(&(file.len() as u64).to_le_bytes()).update(file);
        }
        hasher.finalize()
    }
}

/// For connections without TLS.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, OpenError> {
    let builder = builder(Arc::new(ring::default_provider()))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, OpenError> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Client(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    use std::io::{Error, ErrorKind, Read as _};
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(Error::new(ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| OpenError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let bad = |problem: &str| OpenError::Certificates { path: path.to_owned(), problem: problem.to_owned() };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad("none found in PEM form")),
        Ok(found) => Ok(found),
        Err(_) => Err(bad("the PEM form is damaged")),
    }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, OpenError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        // The error itself could quote a line of the file.
        let encrypted = pem.windows(9).any(|words| words == b"ENCRYPTED");
        let problem = if encrypted { "it is encrypted" } else { "no private key found in PEM form" };
        OpenError::Key { path: path.to_owned(), problem: problem.to_owned() }
    })
}

/// Judges certificates as rustls does, and says whose they are when it refuses them.
#[derive(Debug)]
struct Verifier {
    /// `None` accepts any.
    trusted: Option<Arc<WebPkiServerVerifier>>,
    /// The name to expect instead of that host. A proxy's certificate is for the proxy.
    expected: Option<(ServerName<'static>, ServerName<'static>)>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let name = match &self.expected {
            Some((expected, host)) if host == server_name => expected,
            _ => server_name,
        };
        trusted.verify_server_cert(end_entity, intermediates, name, ocsp_response, now).map_err(|error| {
            let Error::InvalidCertificate(why) = error else { return error };
            let certificate = x509::Certificate::parse(end_entity).unwrap_or_default();
            let refused = Refused { name: name.to_str().into_owned(), why, certificate };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// As whom to appear. A server that refuses it, or that there is none, may close before we read why (in TLS 1.3 the
/// handshake is over for us by then), so it is noted that it has asked.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// A certificate that is not accepted.
#[derive(Debug)]
struct Refused {
    name: String,
    why: CertificateError,
    certificate: x509::Certificate,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CertificateError::*;
        write!(f, "the certificate of {} is refused: ", self.name)?;
        match &self.why {
            UnknownIssuer => f.write_str("no trusted authority has signed it")?,
            Expired | ExpiredContext { .. } => f.write_str("it has expired")?,
            NotValidYet | NotValidYetContext { .. } => f.write_str("it is not valid yet")?,
            NotValidForName | NotValidForNameContext { .. } => f.write_str("it is for another name")?,
            InvalidPurpose | InvalidPurposeContext { .. } => f.write_str("it is not for servers")?,
            BadSignature => f.write_str("its signature is wrong")?,
            // As an authority's own certificate at the end of a chain does.
            Other(_) => f.write_str("it is no server's certificate")?,
            other => write!(f, "{other}")?,
        }
        write!(f, " ({})", self.certificate)
    }
}

/// What a failure of TLS means, and what somebody can do about it.
pub(crate) fn explain(error: &Error, options: &TlsOptions) -> (String, Option<&'static str>) {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let help = other.0.downcast_ref::<Refused>().and_then(|refused| help(&refused.why, options));
            (other.to_string(), help)
        }
        Error::AlertReceived(alert) => {
            let help = is_about_us(*alert).then(|| identity_help(options));
            (format!("the server ends the handshake: {}", words(*alert)), help)
        }
        Error::InvalidMessage(_) => (
            "the peer does not speak TLS".to_owned(),
            Some("if it is meant to, look at the port; else begin with http://"),
        ),
        other => (other.to_string(), None),
    }
}

/// What to do where the server asks who we are, and ends it.
pub(crate) fn identity_help(options: &TlsOptions) -> &'static str {
    match options.identity {
        Some(_) => "it may not accept the certificate in `tls.cert_file`",
        None => "it may ask for a certificate of ours: set `tls.cert_file` and `tls.key_file`",
    }
}

fn help(why: &CertificateError, options: &TlsOptions) -> Option<&'static str> {
    use CertificateError::*;
    match why {
        UnknownIssuer if options.ca_file.is_some() => Some("is its authority in `tls.ca_file`?"),
        UnknownIssuer => Some("set `tls.ca_file` to the certificate of its authority"),
        Expired | ExpiredContext { .. } => Some("renew it on the server, or put this machine's clock right"),
        NotValidYet | NotValidYetContext { .. } => Some("put this machine's clock right"),
        NotValidForName | NotValidForNameContext { .. } => {
            Some("use one of its names in the endpoint, or set `tls.server_name` to one")
        }
        _ => None,
    }
}

/// Whether the server may mean our certificate, or that there is none (RFC 8446 §6.2).
fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription::*;
    matches!(
        alert,
        CertificateRequired
            | NoCertificate
            | BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | UnknownCA
            | AccessDenied
            | HandshakeFailure
    )
}

/// `CertificateRequired` as `certificate required`.
fn words(alert: AlertDescription) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// Writes files and gives what is wrong with them as an identity or authorities.
    fn fault(ca: Option<&str>, identity: Option<(&str, &str)>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let options = TlsOptions {
            ca_file: ca.map(|text| write("ca.pem", text)),
            identity: identity.map(|(cert, key)| (write("cert.pem", cert), write("key.pem", key))),
            ..TlsOptions::default()
        };
        let made = options.read().and_then(|material| options.config(&material, "x", &Arc::default()));
        let text = made.err().map(|error| error.to_string()).unwrap_or_default();
        text.replace(&*dir.path().to_string_lossy(), "DIR")
    }

    #[test]
    fn bad_files_are_named_and_never_quoted() {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([]).unwrap().self_signed(&key).unwrap().pem();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let key = key.serialize_pem();
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let torn = &cert[..cert.len() / 2];
        for (ca, identity, want) in [
            (Some(""), None, "read certificates from DIR/ca.pem: none found in PEM form"),
            (Some(&*key), None, "read certificates from DIR/ca.pem: none found in PEM form"),
            (Some(torn), None, "read certificates from DIR/ca.pem: the PEM form is damaged"),
            (None, Some(("", &*key)), "read certificates from DIR/cert.pem: none found in PEM form"),
            (
                None,
                Some((&*cert, &*cert)),
                "read the private key from DIR/key.pem: no private key found in PEM form",
            ),
            (None, Some((&*cert, encrypted)), "read the private key from DIR/key.pem: it is encrypted"),
            (
                None,
                Some((&*cert, &*other)),
                "use DIR/cert.pem with DIR/key.pem: the key does not belong to the certificate",
            ),
            (Some(&*cert), Some((&*cert, &*key)), ""),
        ] {
            let told = fault(ca, identity);
            assert_eq!(told, want);
        }
        // Both may stand in one file.
        let both = format!("{key}{cert}");
        assert_eq!(fault(None, Some((&both, &both))), "");
    }

    #[test]
    fn the_digest_changes_with_any_file() {
        let material = |ca: Option<&str>, cert: &str, key: &str| Material {
            ca: ca.map(|text| text.as_bytes().to_vec()),
            identity: Some((cert.as_bytes().to_vec(), key.as_bytes().to_vec())),
        };
        let one = material(Some("a"), "b", "c").digest();
        assert_eq!(one, material(Some("a"), "b", "c").digest());
        for other in [material(None, "b", "c"), material(Some("ab"), "", "c"), material(Some("a"), "bc", "")]
        {
            assert_ne!(one, other.digest());
        }
    }

    #[test]
    fn alerts_are_told_in_words() {
        assert_eq!(words(AlertDescription::CertificateRequired), "certificate required");
        assert_eq!(words(AlertDescription::UnknownCA), "unknown ca");
    }
}
