//! An archive in S3, or in a store that speaks like it: one compressed NDJSON object a batch, by hour of event time.
//!
//! One PUT makes one object, whose key is a function of the batch, and which must not replace another
//! (`If-None-Match: *`). Where the store says that it is there already, it is asked whether that is the same batch.
//! A batch that was written down before the last stop is asked for first: its object may exist.
//!
//! Source: Amazon S3 API Reference, `PutObject`, `HeadObject` and "Error responses"; Amazon S3 User Guide, "Prevent
//! object overwrites with conditional writes" (409: nothing was stored, send it again). Refusals never speak of single
//! events, so none is dead-lettered; what cannot pass by itself is held.

use super::layout::{self, Layout};
use super::{BatchOptions, Built, Connection, HttpCommon, Invalid, RateLimit, Tls, frame_line};
use crate::aws::{Credentials, Signing, encode, sha256, word};
use crate::batch::Batch;
use crate::compress::Encoding;
use crate::sink::{Context, GroupKey, Limits, Named, Op, Outcome, Reply, Sink, Verdict};
use crate::units::{Duration, Endpoint};
use auditship_event::{Index, Record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time;

/// An object is whole in memory until it is stored, its records' places included.
const LIMITS: Limits = Limits {
    bytes: 128 << 20,
    packed_bytes: Some(8 << 20),
    whole_lines: true,
    events: 100_000,
    age: time::Duration::from_secs(300),
    event_bytes: None,
    event_age: None,
};

/// Longest time for one request: 8 MiB at 2 Mbit/s take half of it.
const TIMEOUT: time::Duration = time::Duration::from_secs(60);
const CONCURRENCY: u32 = 4;
const ANSWER_BYTES: usize = 64 << 10;
/// A key has at most 1,024 bytes ("Naming Amazon S3 objects"); what follows the prefix is shorter than the rest.
const PREFIX_BYTES: usize = 512;
const OWNER: &str = "x-amz-expected-bucket-owner";
const BATCH_ID: &str = "x-amz-meta-batch-id";
/// Tells requests apart that look alike; a header that no store knows.
const STEP: &str = "auditship-step";

/// Archives to S3 or a store that speaks like it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// The bucket's region, such as `eu-central-1`. Stores of other makers: what they say, `us-east-1` if they say
    /// nothing.
    pub region: Option<String>,
    /// What all keys begin with, such as `kubernetes/audit/`; a `/` at its end is part of it.
    #[serde(default)]
    pub prefix: String,
    /// Base URL of a store of another maker, such as `https://minio.example:9000`; without it, AWS' own in `region`.
    pub endpoint: Option<Endpoint>,
    /// Where the bucket stands in the URL (`virtual_host` for AWS, else `path`).
    pub addressing: Option<Addressing>,
    /// Where credentials come from; by default from the usual places.
    #[serde(default)]
    pub credentials: Credentials,
    /// Compression of the objects: `zstd` (the default) or `gzip`.
    pub compression: Option<Encoding>,
    /// How the store encrypts the objects; by default as the bucket says.
    pub encryption: Option<Encryption>,
    /// Storage class of the objects, such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// How long each object cannot be deleted; the bucket must have Object Lock.
    pub object_lock: Option<ObjectLock>,
    /// Account that must own the bucket: 12 digits.
    pub expected_bucket_owner: Option<String>,
    /// Whether the store is to check the bytes: `x-amz-checksum-sha256` (true). For stores that refuse the header.
    pub checksum: Option<bool>,
    /// Whether to ask that no object is replaced: `If-None-Match` (true). For stores that refuse the header.
    pub conditional: Option<bool>,
    /// Size and age of one object: bytes after compression (8MiB), age 5m.
    #[serde(default)]
    pub batch: BatchOptions,
    /// Limits on what is sent.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// Longest time for one request (60s).
    pub timeout: Option<Duration>,
    /// Most requests at the same time (4); it adapts below that.
    pub concurrency: Option<u32>,
    /// Whom to trust, and as whom to appear.
    #[serde(default)]
    pub tls: Tls,
    /// How connections are made and kept.
    #[serde(default)]
    pub connection: Connection,
}

/// Where the bucket stands in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHost,
}

/// How the store encrypts the objects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// With keys of the store (SSE-S3).
    SseS3,
    /// With a key of the key service (SSE-KMS).
    SseKms(Kms),
}

/// A key of the key service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    /// Its ID or ARN; the account's own key for S3 without it.
    pub key_id: Option<String>,
    /// Whether to use a key of the bucket's below it, which makes fewer requests to the key service.
    #[serde(default)]
    pub bucket_key: bool,
}

/// How long an object cannot be deleted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Who may shorten it.
    pub mode: LockMode,
    /// How long, counted from the time of the object's first event, such as `365d`.
    pub retain: Duration,
}

/// Who may shorten the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Who has the permission for it.
    Governance,
    /// Nobody.
    Compliance,
}

impl S3 {
    pub(super) fn build(&self, context: &Context) -> Result<Built, Invalid> {
        let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(3..=63).contains(&self.bucket.len())
            || !self.bucket.chars().all(safe)
            || self.bucket.contains("..")
        {
            return Err(Invalid::new("bucket", "is not a bucket's name"));
        }
        let odd = |part: &str| part == "." || part == "..";
        if self.prefix.len() > PREFIX_BYTES || self.prefix.starts_with('/') || self.prefix.split('/').any(odd)
        {
            let message = "must not begin with `/`, hold `.` or `..` as a part, or exceed 512 bytes";
            return Err(Invalid::new("prefix", message));
        }
        let region = match (&self.region, &self.endpoint) {
            (Some(region), _) => region,
            (None, Some(_)) => "us-east-1",
            (None, None) => return Err(Invalid::new("region", "is needed where there is no endpoint")),
        };
        let mut signing = Signing::new(region, "s3", &self.credentials, "credentials")?;
        signing.checksum = self.checksum.unwrap_or(true);
        let endpoint = match &self.endpoint {
            Some(Endpoint(endpoint)) => endpoint.trim_end_matches('/').to_owned(),
            None if region.starts_with("cn-") => format!("https://s3.{region}.amazonaws.com.cn"),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let common = HttpCommon {
            endpoint: &endpoint,
            path: "endpoint",
            rate_limit: &self.rate_limit,
            timeout: Some(self.timeout.unwrap_or(Duration(TIMEOUT))),
            concurrency: Some(self.concurrency.unwrap_or(CONCURRENCY)),
            tls: &self.tls,
            connection: &self.connection,
        };
        let (transport, options) = common.check()?;
        let transport = transport.signed(signing);
        if endpoint.contains(['?', '#']) {
            return Err(Invalid::new("endpoint", "must not hold a query"));
        }
        let compression = self.compression.unwrap_or(Encoding::Zstd);
        if compression == Encoding::None {
            return Err(Invalid::new("compression", "must be zstd or gzip"));
        }
        let sink = Arc::new(Archive {
            layout: Layout::new(context),
            bucket: self.base(&endpoint),
            prefix: encode(&self.prefix, "/"),
            limits: self.batch.limits(LIMITS)?,
            encoding: compression,
            headers: self.headers()?,
            owner: self.owner()?,
            conditional: self.conditional.unwrap_or(true),
            lock: self.lock()?,
            conditions: AtomicU8::new(UNKNOWN),
        });
        Ok(Built { sink, transport, options })
    }

    /// The bucket's URL.
    fn base(&self, endpoint: &str) -> String {
        let uri: Uri = endpoint.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let of_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        // A dot in the name makes a host that the certificate does not cover.
        let fits = uri.scheme_str() != Some("https") || !self.bucket.contains('.');
        let default = if of_aws && fits { Addressing::VirtualHost } else { Addressing::Path };
        match (self.addressing.unwrap_or(default), endpoint.split_once("://")) {
            (Addressing::VirtualHost, Some((scheme, rest))) => format!("{scheme}://{}.{rest}", self.bucket),
            _ => format!("{endpoint}/{}", self.bucket),
        }
    }

    /// The headers that all objects have in common.
    fn headers(&self) -> Result<HeaderMap, Invalid> {
        let mut headers = HeaderMap::new();
        if let Some(class) = &self.storage_class {
            let safe = |c: char| c.is_ascii_uppercase() || c == '_';
            if class.is_empty() || !class.chars().all(safe) {
                return Err(Invalid::new("storage_class", "is not a storage class"));
            }
            put(&mut headers, "storage_class", "x-amz-storage-class", class)?;
        }
        match &self.encryption {
            None => {}
            Some(Encryption::SseS3) => {
                put(&mut headers, "encryption", "x-amz-server-side-encryption", "AES256")?;
            }
            Some(Encryption::SseKms(kms)) => {
                put(&mut headers, "encryption", "x-amz-server-side-encryption", "aws:kms")?;
                if let Some(key_id) = &kms.key_id {
                    let name = "x-amz-server-side-encryption-aws-kms-key-id";
                    put(&mut headers, "encryption", name, key_id)?;
                }
                if kms.bucket_key {
                    let name = "x-amz-server-side-encryption-bucket-key-enabled";
                    put(&mut headers, "encryption", name, "true")?;
                }
            }
        }
        Ok(headers)
    }

    fn owner(&self) -> Result<Option<HeaderValue>, Invalid> {
        let Some(owner) = &self.expected_bucket_owner else { return Ok(None) };
        let valid = owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
        let value = HeaderValue::from_str(owner).ok().filter(|_| valid);
        value.map(Some).ok_or_else(|| Invalid::new("expected_bucket_owner", "must be 12 digits, in quotes"))
    }

    fn lock(&self) -> Result<Option<Lock>, Invalid> {
        let Some(lock) = &self.object_lock else { return Ok(None) };
        if lock.retain.0 < time::Duration::from_secs(86_400) {
            return Err(Invalid::new("object_lock.retain", "must be at least 1d"));
        }
        if self.checksum == Some(false) {
            return Err(Invalid::new("checksum", "cannot be left out where objects are locked"));
        }
        let mode = match lock.mode {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        };
        let retain = i64::try_from(lock.retain.0.as_micros());
        let retain = retain.map_err(|_| Invalid::new("object_lock.retain", "is too long"))?;
        Ok(Some(Lock { mode, retain }))
    }
}

fn put(headers: &mut HeaderMap, path: &'static str, name: &'static str, value: &str) -> Result<(), Invalid> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| Invalid::new(path, "holds characters that no header can carry"))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

struct Lock {
    mode: &'static str,
    /// Microseconds.
    retain: i64,
}

/// Whether the store honours conditions is not known yet.
const UNKNOWN: u8 = 0;
/// It is being asked.
const ASKED: u8 = 1;
/// It is known: it does, or somebody was told that it does not.
const KNOWN: u8 = 2;

struct Archive {
    layout: Layout,
    /// The bucket's URL.
    bucket: String,
    /// What all keys begin with, encoded.
    prefix: String,
    limits: Limits,
    encoding: Encoding,
    headers: HeaderMap,
    owner: Option<HeaderValue>,
    conditional: bool,
    lock: Option<Lock>,
    conditions: AtomicU8,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Look whether a thawed batch is there.
    Look,
    /// Store the object.
    Store,
    /// Store it once more, to see whether the store honours conditions.
    Probe,
    /// It is there already: look whether it is this batch.
    Compare,
    /// The store keeps no metadata: look whether it has the same bytes.
    Checksum,
}

impl Step {
    fn of(asked: &Op) -> Option<Step> {
        let Op::Http { method, headers, .. } = asked else { return None };
        Some(match headers.get(STEP).map(HeaderValue::as_bytes) {
            Some(b"probe") => Step::Probe,
            Some(b"compare") => Step::Compare,
            Some(b"checksum") => Step::Checksum,
            _ if method == Method::PUT => Step::Store,
            _ => Step::Look,
        })
    }
}

impl Archive {
    fn op(&self, batch: &Batch, step: Step) -> Op {
        let (method, mut headers, body) = match step {
            Step::Store | Step::Probe => (Method::PUT, self.describe(batch), batch.body.clone()),
            Step::Look | Step::Compare | Step::Checksum => (Method::HEAD, HeaderMap::new(), Bytes::new()),
        };
        if let Some(owner) = &self.owner {
            headers.insert(OWNER, owner.clone());
        }
        let name = match step {
            Step::Look | Step::Store => None,
            Step::Probe => Some("probe"),
            Step::Compare => Some("compare"),
            Step::Checksum => {
                // Only here: for objects under KMS, S3 wants the permission to decrypt for it.
                headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
                Some("checksum")
            }
        };
        headers.extend(name.map(|name| (HeaderName::from_static(STEP), HeaderValue::from_static(name))));
        let url = format!("{}/{}{}", self.bucket, self.prefix, encode(&self.layout.name(batch), "/"));
        Op::Http { method, url, headers, body, answer_bytes: ANSWER_BYTES }
    }

    /// The headers of an object: what it is, and what becomes of it.
    fn describe(&self, batch: &Batch) -> HeaderMap {
        let mut headers = self.headers.clone();
        let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        let times = || batch.records.iter().map(|record| record.time);
        let content_type = match batch.encoding {
            Encoding::Gzip => "application/gzip",
            _ => "application/zstd",
        };
        // No `Content-Encoding`: a reader that decodes by itself would break those who expect what the name says.
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let mut text = |name: &'static str, value: String| {
            let value = HeaderValue::from_str(&value).expect("digits, letters and punctuation");
            headers.insert(HeaderName::from_static(name), value);
        };
        text(BATCH_ID, batch.id.to_string());
        text("x-amz-meta-events", batch.records.len().to_string());
        text("x-amz-meta-first", time(times().min().unwrap_or(batch.time)).to_string());
        text("x-amz-meta-last", time(times().max().unwrap_or(batch.time)).to_string());
        text("x-amz-meta-raw-bytes", batch.raw_len.to_string());
        if let Some(lock) = &self.lock {
            let until = time(batch.time.saturating_add(lock.retain)).strftime("%Y-%m-%dT%H:%M:%SZ");
            text("x-amz-object-lock-mode", lock.mode.to_owned());
            text("x-amz-object-lock-retain-until-date", until.to_string());
        }
        if self.conditional {
            text("if-none-match", "*".to_owned());
        }
        headers
    }

    fn ask(&self, batch: &Batch, step: Step) -> Outcome {
        Outcome::Ask { op: self.op(batch, step), after: time::Duration::ZERO }
    }

    /// The object was stored. Once in the life of the process the store is asked whether it would replace it.
    fn stored(&self, batch: &Batch) -> Outcome {
        let first = self.conditional
            && self.conditions.compare_exchange(UNKNOWN, ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first { self.ask(batch, Step::Probe) } else { Outcome::Delivered }
    }

    /// Whatever the answer is, the object was stored before.
    fn probed(&self, reply: &Reply) -> Outcome {
        let known = match reply {
            Reply::Http { status: 412 | 304, .. } => KNOWN,
            Reply::Http { status: 200..=299, .. } => {
                tracing::warn!(
                    bucket = self.bucket,
                    "the store ignores If-None-Match: a repeated object replaces itself, by the same events"
                );
                KNOWN
            }
            _ => UNKNOWN,
        };
        self.conditions.store(known, Ordering::Relaxed);
        Outcome::Delivered
    }

    /// There is an object of that key: this batch, or somebody else's?
    fn compare(&self, batch: &Batch, step: Step, headers: &HeaderMap) -> Outcome {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let same = match (text(BATCH_ID), text("x-amz-checksum-sha256")) {
            (Some(id), _) => id == batch.id.to_string(),
            // The key has the batch's ID in it, too.
            (None, Some(checksum)) => checksum == BASE64.encode(sha256(&batch.body)),
            (None, None) if step != Step::Checksum => return self.ask(batch, Step::Checksum),
            (None, None) => text("content-length") == Some(&*batch.body.len().to_string()),
        };
        if same {
            return Outcome::Delivered;
        }
        let key = self.layout.name(batch);
        Outcome::Hold {
            reason: format!("another object has the key {key}: it is not replaced; who made it?"),
        }
    }

    /// What an answer means that is no success.
    fn trouble(&self, reply: &Reply) -> Outcome {
        let nonsense = || Outcome::Retry { after: None, reason: "the answer is no store's".to_owned() };
        let Some(outcome) = reply.outcome() else { return nonsense() };
        let Reply::Http { status, headers, body } = reply else { return outcome };
        let code = word(body, "Code").unwrap_or_default();
        let reason = || format!("http {status} {code}").trim_end().to_owned();
        let hold = |more: &str| Outcome::Hold { reason: format!("{}: {more}", reason()) };
        match (*status, code) {
            (301 | 307 | 308, _)
            | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                match wanted_region(headers, body) {
                    Some(region) => hold(&format!("the bucket is in the region {region}")),
                    None => hold("wrong region or endpoint"),
                }
            }
            (_, "RequestTimeTooSkewed") => {
                let theirs =
                    headers.get(header::DATE).and_then(|date| date.to_str().ok()).unwrap_or("unknown");
                hold(&format!("this node's clock is more than 15 minutes off; the store's says {theirs}"))
            }
            (_, "NoSuchBucket") => hold("there is no such bucket"),
            (_, "SignatureDoesNotMatch") => {
                hold("wrong secret key, or something in between changes requests")
            }
            (_, "InvalidAccessKeyId") => hold("the store does not know the key"),
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                hold("the credentials have expired, and new ones are no better")
            }
            (403, _) => hold("not allowed: s3:PutObject is needed, and what encryption and locking need"),
            (501, _) => hold("the store knows a header not: see `conditional` and `checksum`"),
            (400, "EntityTooLarge") => Outcome::Split,
            // Something happened to the bytes on their way.
            (
                400,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody"
                | "RequestTimeout",
            ) => Outcome::Retry { after: None, reason: reason() },
            _ => match outcome {
                // A store has no opinion about single events.
                Outcome::Reject(_) => Outcome::Hold { reason: reason() },
                Outcome::Retry { after, .. } => Outcome::Retry { after, reason: reason() },
                other => other,
            },
        }
    }
}

fn is_list(body: &[u8]) -> bool {
    String::from_utf8_lossy(&body[..body.len().min(1024)]).contains("<ListBucketResult")
}

/// The region that the store says the bucket is in.
fn wanted_region(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let told = headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let told = told.filter(|region| region.len() <= 64 && region.chars().all(safe));
    told.or_else(|| word(body, "Region")).map(str::to_owned)
}

impl Sink for Archive {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn group(&self, record: &Record<'_>) -> GroupKey {
        Layout::group(record)
    }

    fn frame(&self, record: &Record<'_>, context: &Context, out: &mut Vec<u8>) -> Range<usize> {
        frame_line(record, context, out)
    }

    fn object(&self, batch: &Batch) -> Option<String> {
        Some(self.layout.name(batch))
    }

    fn named(&self, object: &str) -> Option<Named> {
        layout::named(object)
    }

    fn request(&self, batch: &Batch) -> Op {
        self.op(batch, if batch.object.is_some() { Step::Look } else { Step::Store })
    }

    fn judge(&self, batch: &Batch, asked: &Op, reply: &Reply) -> Outcome {
        let (status, headers) = match reply {
            Reply::Http { status, headers, .. } => (*status, headers),
            _ => (0, &HeaderMap::new()),
        };
        match (Step::of(asked), status) {
            (None, _) => Outcome::Hold { reason: "not a request of this output".to_owned() },
            (Some(Step::Probe), _) => self.probed(reply),
            (Some(Step::Store), 200..=299) if headers.contains_key(header::ETAG) => self.stored(batch),
            // 304 is what some stores said before it was settled (RFC 9110 §13.2.2 asks for 412).
            (Some(Step::Store), 412 | 304) if self.conditional => self.ask(batch, Step::Compare),
            (Some(step @ (Step::Look | Step::Compare | Step::Checksum)), 200) => {
                self.compare(batch, step, headers)
            }
            // S3 says 403 for what is not there to whoever may not list the bucket.
            (Some(Step::Look), 403 | 404) => self.ask(batch, Step::Store),
            (Some(Step::Compare | Step::Checksum), 403) => Outcome::Hold {
                reason:
                    "the object is there already, and to see whether it is this batch s3:GetObject is needed"
                        .to_owned(),
            },
            (Some(Step::Compare | Step::Checksum), 404) => {
                let reason = "the object was there already, and then was not".to_owned();
                Outcome::Retry { after: None, reason }
            }
            (Some(_), _) => self.trouble(reply),
        }
    }

    fn probe(&self, _: &[Index]) -> Vec<Op> {
        // It says more about what is wrong than HEAD, which has no body. Some stores take `max-keys=0` for no limit.
        let url = format!("{}/?list-type=2&max-keys=1", self.bucket);
        let mut headers = HeaderMap::new();
        headers.extend(self.owner.clone().map(|owner| (HeaderName::from_static(OWNER), owner)));
        vec![Op::Http { method: Method::GET, url, headers, body: Bytes::new(), answer_bytes: ANSWER_BYTES }]
    }

    fn judge_probe(&self, _: &Op, reply: &Reply) -> Verdict {
        let bad = |text: String, advice: &str| Verdict::Bad { text, advice: advice.to_owned() };
        match reply {
            Reply::Http { status: 200, body, .. } if is_list(body) => {
                Verdict::Good("the bucket is there".to_owned())
            }
            Reply::Http { status: 200, .. } => {
                bad("what answers is no store".to_owned(), "look at `endpoint`")
            }
            Reply::Http { status: 403, body, .. } if word(body, "Code") == Some("AccessDenied") => {
                Verdict::Good("the credentials are known; the bucket is not for them to list".to_owned())
            }
            Reply::Failed { text, .. } => bad(text.clone(), "look at `credentials` and at the endpoint"),
            _ => match self.trouble(reply) {
                Outcome::Hold { reason } => bad(reason, "look at `bucket`, `region` and `credentials`"),
                Outcome::Retry { reason, .. } => Verdict::Doubtful(reason),
                _ => Verdict::Doubtful("the answer is no store's".to_owned()),
            },
        }
    }

    fn is_signed_with_time(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
