//! AWS Signature Version 4, in the `Authorization` header. Pure.
//!
//! Source: AWS IAM User Guide, "Create a signed AWS API request"; Amazon S3 API Reference, "Authenticating Requests
//! (AWS Signature Version 4)", whose examples are the tests here.

use super::chain::Keys;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use reqwest::Url;
use sha2::{Digest, Sha256};

/// The hash of a payload.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// `text` with everything percent-encoded but `A-Z a-z 0-9 - . _ ~` and the bytes of `also`: AWS' `UriEncode`.
pub(crate) fn encode(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let char = char::from(byte);
        if char.is_ascii_alphanumeric() || "-._~".contains(char) || also.contains(char) {
            out.push(char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `text` with `%XX` resolved.
fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What is signed for, and when.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `YYYYMMDDTHHMMSSZ`, as in `x-amz-date`.
    pub(super) time: &'a str,
}

/// The value of the `Authorization` header. Signed are all of `headers` and the host; `payload` is the hash of the
/// body in hexadecimal.
pub(super) fn authorization(
    scope: &Scope<'_>,
    keys: &Keys,
    method: &Method,
    url: &Url,
    headers: &HeaderMap,
    payload: &str,
) -> String {
    let mut signed: Vec<(&str, String)> = vec![("host", host(url))];
    for name in headers.keys() {
        let values = headers.get_all(name).iter();
        let values: Vec<String> = values.map(|value| trimmed(value.as_bytes())).collect();
        signed.push((name.as_str(), values.join(",")));
    }
    signed.sort();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = (path(url, scope.service), query(url));
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}");

    let Scope { region, service, time } = scope;
    let date = time.get(..8).unwrap_or_default();
    let credential = format!("{date}/{region}/{service}/aws4_request");
    let hash = hex(&sha256(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{credential}\n{hash}");
    let key = mac(format!("AWS4{}", keys.secret.reveal()).as_bytes(), date);
    let key = mac(&mac(&mac(&key, region), service), "aws4_request");
    let signature = hex(&mac(&key, &text));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{credential}, SignedHeaders={names}, Signature={signature}",
        keys.id.reveal()
    )
}

/// The `Host` header that the client will send: the port is there unless it is the scheme's own.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Outer spaces gone, inner ones one each.
fn trimmed(value: &[u8]) -> String {
    String::from_utf8_lossy(value).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// S3 encodes the path once; all others encode once more what was sent.
fn path(url: &Url, service: &str) -> String {
    let path = if service == "s3" { decode(url.path()) } else { url.path().to_owned() };
    encode(&path, "/")
}

fn query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name), ""), encode(&decode(value), ""))
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    struct Case<'a> {
        scope: Scope<'a>,
        keys: (&'a str, &'a str),
        request: (Method, &'a str),
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
        want: (&'a str, &'a str),
    }

    fn check(case: &Case<'_>) {
        let keys = Keys::lasting(Secret::new(case.keys.0), Secret::new(case.keys.1));
        let mut headers = HeaderMap::new();
        for (name, value) in case.headers {
            headers.append(*name, value.parse().unwrap());
        }
        let (method, url) = &case.request;
        let payload = hex(&sha256(case.body.as_bytes()));
        let got = authorization(&case.scope, &keys, method, &url.parse().unwrap(), &headers, &payload);
        let (names, signature) = case.want;
        let Scope { region, service, time } = case.scope;
        let want = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{region}/{service}/aws4_request, SignedHeaders={names}, \
             Signature={signature}",
            case.keys.0,
            &time[..8]
        );
        assert_eq!(got, want, "{method} {url}");
    }

    /// Amazon S3 API Reference, "Signature Calculations for the Authorization Header": the four examples.
    #[test]
    fn the_examples_of_s3() {
        let welcome = hex(&sha256(b"Welcome to Amazon S3."));
        assert_eq!(welcome, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
        let date = ("x-amz-date", "20130524T000000Z");
        let empty = ("x-amz-content-sha256", EMPTY);
        let s3 = |method,
                  path: &str,
                  headers: &[(&'static str, &str)],
                  body: &str,
                  names: &str,
                  signature: &str| {
            check(&Case {
                scope: Scope { region: "us-east-1", service: "s3", time: "20130524T000000Z" },
                keys: ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                request: (method, &format!("https://examplebucket.s3.amazonaws.com{path}")),
                headers,
                body,
                want: (names, signature),
            });
        };
        s3(
            Method::GET,
            "/test.txt",
            &[("range", "bytes=0-9"), empty, date],
            "",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        s3(
            Method::PUT,
            "/test$file.text",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                date,
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("x-amz-content-sha256", &welcome),
            ],
            "Welcome to Amazon S3.",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
        s3(
            Method::GET,
            "/?lifecycle",
            &[date, empty],
            "",
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        );
        s3(
            Method::GET,
            "/?max-keys=2&prefix=J",
            &[date, empty],
            "",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }

    /// AWS' "Signature Version 4 test suite": `get-vanilla`, `get-vanilla-query-order-key-case`, `post-vanilla` and
    /// `post-x-www-form-urlencoded`; and the example of the IAM User Guide, `ListUsers`.
    #[test]
    fn the_examples_of_other_services() {
        let date = ("x-amz-date", "20150830T123600Z");
        let case = |service: &str,
                    method,
                    url: &str,
                    headers: &[(&'static str, &str)],
                    body: &str,
                    names: &str,
                    signature: &str| {
            check(&Case {
                scope: Scope { region: "us-east-1", service, time: "20150830T123600Z" },
                keys: ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                request: (method, url),
                headers,
                body,
                want: (names, signature),
            });
        };
        let (base, names) = ("https://example.amazonaws.com/", "host;x-amz-date");
        case(
            "service",
            Method::GET,
            base,
            &[date],
            "",
            names,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        case(
            "service",
            Method::GET,
            "https://example.amazonaws.com/?Param2=value2&Param1=value1",
            &[date],
            "",
            names,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        case(
            "service",
            Method::POST,
            base,
            &[date],
            "",
            names,
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        case(
            "service",
            Method::POST,
            base,
            &[date, ("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
        case(
            "iam",
            Method::GET,
            "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            &[date, ("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            "",
            "content-type;host;x-amz-date",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
    }

    #[test]
    fn canonical_forms() {
        for (url, service, want) in [
            ("https://h/a=b/c%3Dd/%C3%A9", "s3", "/a%3Db/c%3Dd/%C3%A9"),
            ("https://h/a%3Db", "es", "/a%253Db"),
            ("https://h", "es", "/"),
        ] {
            assert_eq!(path(&url.parse().unwrap(), service), want);
        }
        let url = "https://h/_bulk?filter_path=errors,items.*.status&b=%2F&a".parse().unwrap();
        assert_eq!(query(&url), "a=&b=%2F&filter_path=errors%2Citems.%2A.status");
        for (url, want) in
            [("https://h:443/", "h"), ("http://h:8080/", "h:8080"), ("http://[::1]:9/", "[::1]:9")]
        {
            assert_eq!(host(&url.parse().unwrap()), want);
        }
        assert_eq!(trimmed(b"  a   b  "), "a b");
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
