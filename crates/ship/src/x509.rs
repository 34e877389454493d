//! What a certificate says of itself, for messages: subject, issuer, dates and names.
//!
//! It judges nothing and verifies nothing: that is the verifier's. What it cannot read it leaves out. The text is
//! the peer's, so it is bounded and of printable characters only. Form: RFC 5280 §4.1, in DER (X.690).

use std::fmt;
use std::net::IpAddr;

/// Longest text of one attribute or name, in characters.
const TEXT_CHARS: usize = 64;
/// Most alternative names that are read.
const NAMES: usize = 8;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
/// `[0]` version and `[3]` extensions of a certificate; `[2]` DNS name and `[7]` address of its alternative names.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17 (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The attributes of a name that are shown (RFC 5280 §4.1.2.4, 2.5.4.x).
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 6], "C"),
];

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Such as `CN=logs.example, O=Example`; empty if it names nobody.
    pub(crate) subject: String,
    /// Who signed it.
    pub(crate) issuer: String,
    /// From when it is valid.
    pub(crate) not_before: Option<jiff::Timestamp>,
    /// Until when.
    pub(crate) not_after: Option<jiff::Timestamp>,
    /// The host names and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// Whether there are more of them.
    pub(crate) more_names: bool,
}

impl Certificate {
    /// Reads one in DER. `None`: it is none.
    pub(crate) fn parse(der: &[u8]) -> Option<Certificate> {
        let mut tbs = Der(Der(Der(der).take(SEQUENCE)?).take(SEQUENCE)?);
        if tbs.tag() == Some(VERSION) {
            tbs.any()?;
        }
        let (_serial, _algorithm) = (tbs.any()?, tbs.take(SEQUENCE)?);
        let issuer = name(tbs.take(SEQUENCE)?);
        let mut validity = Der(tbs.take(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.any()?), time(validity.any()?));
        let subject = name(tbs.take(SEQUENCE)?);
        let mut certificate =
            Certificate { subject, issuer, not_before, not_after, ..Certificate::default() };
        while let Some((tag, inside)) = tbs.any() {
            if tag == EXTENSIONS {
                certificate.read_names(inside);
            }
        }
        Some(certificate)
    }

    fn read_names(&mut self, extensions: &[u8]) -> Option<()> {
        let mut extensions = Der(Der(extensions).take(SEQUENCE)?);
        while let Some(extension) = extensions.take(SEQUENCE) {
            let mut extension = Der(extension);
            if extension.take(OBJECT_ID) != Some(SUBJECT_ALT_NAME) {
                continue;
            }
            // Between them stands whether it is critical, or nothing.
            let value = std::iter::from_fn(|| extension.any()).find(|(tag, _)| *tag == OCTET_STRING)?.1;
            let mut names = Der(Der(value).take(SEQUENCE)?);
            while let Some((tag, value)) = names.any() {
                let name = match tag {
                    DNS_NAME => printable(&String::from_utf8_lossy(value)),
                    IP_ADDRESS => match address(value) {
                        Some(address) => address.to_string(),
                        None => continue,
                    },
                    _ => continue,
                };
                if self.names.len() == NAMES {
                    self.more_names = true;
                    break;
                }
                self.names.push(name);
            }
        }
        Some(())
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
        write!(f, "subject {}, issuer {}", or_none(&self.subject), or_none(&self.issuer))?;
        if let (Some(from), Some(until)) = (self.not_before, self.not_after) {
            write!(f, ", valid from {from} until {until}")?;
        }
        if !self.names.is_empty() {
            write!(f, ", for {}{}", self.names.join(" "), if self.more_names { " …" } else { "" })?;
        }
        Ok(())
    }
}

/// What is left to read of a run of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element's tag and content.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let len = match first {
            0..=0x7f => usize::from(*first),
            // The long form; no certificate needs more than four bytes.
            0x81..=0x84 => {
                let (count, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                count.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The next element's content, if it has that tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.tag() != Some(tag) {
            return None;
        }
        self.any().map(|(_, content)| content)
    }
}

/// A distinguished name, in the order in which it is written.
fn name(content: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut sets = Der(content);
    while let Some(set) = sets.take(SET) {
        let mut set = Der(set);
        while let Some(pair) = set.take(SEQUENCE) {
            let mut pair = Der(pair);
            let (Some(id), Some((tag, value))) = (pair.take(OBJECT_ID), pair.any()) else { continue };
            let Some((_, word)) = ATTRIBUTES.iter().find(|(known, _)| *known == id) else { continue };
            let text = if tag == BMP_STRING {
                let units = value.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair));
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            } else {
                String::from_utf8_lossy(value).into_owned()
            };
            parts.push(format!("{word}={}", printable(&text)));
        }
    }
    parts.join(", ")
}

fn printable(text: &str) -> String {
    text.chars().take(TEXT_CHARS).map(|c| if c.is_control() || c == '`' { '?' } else { c }).collect()
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280 §4.1.2.5).
fn time((tag, content): (u8, &[u8])) -> Option<jiff::Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Years from 50 are of the century before.
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::fmt::strtime::parse("%Y%m%d%H%M%S", &text).ok()?.to_datetime().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, Issuer, KeyPair, SanType, date_time_ymd};

    fn made() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.distinguished_name = rcgen::DistinguishedName::new();
        authority.distinguished_name.push(DnType::CommonName, "Test Authority");
        authority.distinguished_name.push(DnType::CountryName, "AT");
        let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(["logs.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("10.0.0.7".parse().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Beispiel\u{7}GmbH");
        let wide = rcgen::string::BmpString::try_from("größe").unwrap();
        params.distinguished_name.push(DnType::CommonName, DnValue::BmpString(wide));
        params.not_before = date_time_ymd(2026, 1, 2);
        params.not_after = date_time_ymd(2055, 3, 4);
        params.signed_by(&key, &issuer).unwrap().der().to_vec()
    }

    #[test]
    fn reads_what_people_need() {
        assert_eq!(
            Certificate::parse(&made()).unwrap().to_string(),
            "subject `O=Beispiel?GmbH, CN=größe`, issuer `CN=Test Authority, C=AT`, valid from \
             2026-01-02T00:00:00Z until 2055-03-04T00:00:00Z, for logs.example 10.0.0.7 2001:db8::1"
        );
    }

    #[test]
    fn names_are_bounded() {
        let names: Vec<String> = (0..20).map(|n| format!("n{n}.example")).collect();
        let params = CertificateParams::new(names).unwrap();
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!((certificate.names.len(), certificate.more_names), (NAMES, true));
        assert!(certificate.to_string().ends_with("n7.example …"));
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut der = made();
            let at = at.index(der.len());
            der[at] = byte;
            der.truncate(cut.index(der.len()) + 1);
            let told = Certificate::parse(&der).map(|certificate| certificate.to_string());
            prop_assert!(told.is_none_or(|text| text.len() < 8192));
        }
    }
}
