//! Keeps credentials for one client: fetches them once for all of its requests, renews them before they expire, and
//! signs each attempt anew.

use super::chain::{Chain, Keys, Unavailable};
use super::sigv4::{self, Scope, hex, sha256};
use super::{Signing, word};
use crate::sink::{Op, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Credentials are renewed so long before they expire.
const EARLY: SignedDuration = SignedDuration::from_mins(5);
/// Not more often than this, where renewing fails and the old ones are still good.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// An answer without a code may mean that they have expired only if they are not just fetched.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// A longer body is hashed on a thread of its own.
const LARGE_BYTES: usize = 256 << 10;

/// Signs one client's requests.
pub(crate) struct Signer {
    signing: Signing,
    chain: Chain,
    /// Held while fetching, so that one fetch serves all who wait.
    kept: Mutex<Option<Kept>>,
    clock: fn() -> Timestamp,
}

struct Kept {
    keys: Arc<Keys>,
    fetched: Timestamp,
    /// When renewing failed last.
    failed: Option<Timestamp>,
}

impl Signer {
    pub(crate) fn open(signing: Signing) -> Signer {
        let chain = Chain::open(&signing.credentials, &signing.region);
        Signer { signing, chain, kept: Mutex::new(None), clock: crate::store::wall_clock }
    }

    /// Signs `op` and sends it; once more with new credentials where the answer is that they have expired.
    pub(crate) async fn perform<F>(&self, op: Op, send: impl Fn(Op) -> F) -> Reply
    where
        F: Future<Output = Reply>,
    {
        let keys = match self.keys(None).await {
            Ok(keys) => keys,
            Err(error) => return error.reply(),
        };
        let Op::Http { method, body, .. } = &op else { return send(op).await };
        let (method, hash) = (method.clone(), hash(body.clone()).await);
        let reply = send(self.sign(op.clone(), &keys, &hash)).await;
        let stale = match says_expired(&reply) {
            Some(stale) => stale,
            None => {
                method == Method::HEAD
                    && matches!(&reply, Reply::Http { status: 400 | 401 | 403, .. })
                    && !self.is_fresh().await
            }
        };
        if !stale {
            return reply;
        }
        match self.keys(Some(&keys)).await {
            Ok(renewed) if renewed != keys => send(self.sign(op, &renewed, &hash)).await,
            _ => reply,
        }
    }

    async fn is_fresh(&self) -> bool {
        let kept = self.kept.lock().await;
        let lasting = |kept: &Kept| kept.keys.expires.is_none();
        kept.as_ref().is_some_and(|kept| lasting(kept) || (self.clock)().duration_since(kept.fetched) < FRESH)
    }

    /// Good credentials: those that are kept, unless they are about to expire or are the `refused` ones.
    async fn keys(&self, refused: Option<&Arc<Keys>>) -> Result<Arc<Keys>, Unavailable> {
        let mut kept = self.kept.lock().await;
        let now = (self.clock)();
        if let Some(kept) = &*kept {
            let left = |expires: Timestamp| expires.duration_since(now);
            let early = kept.keys.expires.is_none_or(|expires| left(expires) > EARLY);
            let pausing = kept.failed.is_some_and(|failed| now.duration_since(failed) < PAUSE)
                && kept.keys.expires.is_none_or(|expires| left(expires) > SignedDuration::ZERO);
            let refused = refused.is_some_and(|refused| Arc::ptr_eq(refused, &kept.keys));
            if (early || pausing) && !refused {
                return Ok(kept.keys.clone());
            }
        }
        match self.chain.keys(now).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *kept = Some(Kept { keys: keys.clone(), fetched: now, failed: None });
                Ok(keys)
            }
            Err(error) => match &mut *kept {
                // The old ones are good for some minutes yet.
                Some(kept) if refused.is_none() && kept.keys.expires.is_some_and(|expires| expires > now) => {
                    kept.failed = Some(now);
                    Ok(kept.keys.clone())
                }
                _ => Err(error),
            },
        }
    }

    fn sign(&self, op: Op, keys: &Keys, hash: &[u8; 32]) -> Op {
        let Op::Http { method, url, mut headers, body, answer_bytes } = op else { return op };
        let payload = hex(hash);
        let time = (self.clock)().strftime("%Y%m%dT%H%M%SZ").to_string();
        insert(&mut headers, "x-amz-content-sha256", &payload);
        if self.signing.checksum && method == Method::PUT {
            insert(&mut headers, "x-amz-checksum-sha256", &BASE64.encode(hash));
        }
        insert(&mut headers, "x-amz-date", &time);
        if let Some(token) = &keys.token {
            insert(&mut headers, "x-amz-security-token", token.reveal());
        }
        // A URL that is none fails in the client, which says so.
        if let Ok(parsed) = url.parse() {
            let scope = Scope { region: &self.signing.region, service: self.signing.service, time: &time };
            let value = sigv4::authorization(&scope, keys, &method, &parsed, &headers, &payload);
            insert(&mut headers, "authorization", &value);
        }
        Op::Http { method, url, headers, body, answer_bytes }
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Only a key or token with characters that none has would not fit; then the service refuses the request.
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(matches!(name, "authorization" | "x-amz-security-token"));
        headers.insert(HeaderName::from_static(name), value);
    }
}

async fn hash(body: Bytes) -> [u8; 32] {
    if body.len() < LARGE_BYTES {
        return sha256(&body);
    }
    let copy = body.clone();
    match tokio::task::spawn_blocking(move || sha256(&copy)).await {
        Ok(hash) => hash,
        // The runtime is ending.
        Err(_) => sha256(&body),
    }
}

/// Whether an answer says that the credentials have expired. `None`: it has no body that could say anything.
fn says_expired(reply: &Reply) -> Option<bool> {
    let Reply::Http { status: 400 | 401 | 403, body, .. } = reply else { return Some(false) };
    if body.is_empty() {
        return None;
    }
    const CODES: [&str; 4] =
        ["ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"];
    // OpenSearch Service answers in JSON.
    const WORDS: &str = "security token included in the request is expired";
    let head = String::from_utf8_lossy(&body[..body.len().min(1024)]).to_ascii_lowercase();
    Some(word(body, "Code").is_some_and(|code| CODES.contains(&code)) || head.contains(WORDS))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "writes files of credentials")]

    use super::*;
    use crate::aws::Credentials;
    use crate::units::Secret;
    use std::sync::Mutex as Sync;
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    static NOW: AtomicI64 = AtomicI64::new(1_795_487_459);

    fn now() -> Timestamp {
        Timestamp::from_second(NOW.load(Relaxed)).unwrap()
    }

    /// Signs with the keys of a profile in `file`, in stopped time.
    fn signer(file: &std::path::Path) -> Signer {
        let credentials = Credentials { profile: Some("default".into()), ..Credentials::default() };
        let mut signing = Signing::new("eu-central-1", "s3", &credentials, "auth").unwrap();
        signing.checksum = true;
        let vars = [("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.to_str().unwrap().to_owned())];
        Signer {
            clock: now,
            chain: Chain::with(&credentials, "eu-central-1", vars.into()),
            ..Signer::open(signing)
        }
    }

    fn op(method: Method) -> Op {
        let url = "http://bucket.example/a%3Db".to_owned();
        Op::Http { method, url, headers: HeaderMap::new(), body: "body".into(), answer_bytes: 1 }
    }

    fn http(status: u16, body: &str) -> Reply {
        Reply::Http { status, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    #[tokio::test]
    async fn expired_credentials_are_renewed_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let write = |id: &str, token: &str| {
            let text = format!(
                "[default]\naws_access_key_id={id}\naws_secret_access_key=hunter2\naws_session_token={token}\n"
            );
            std::fs::write(&file, text).unwrap();
        };
        let seen = Sync::new(Vec::<HeaderMap>::new());
        let expired = "<Error><Code>ExpiredToken</Code></Error>";
        for (answers, want) in [
            (vec![http(200, "")], 1),
            (vec![http(400, expired), http(200, "")], 2),
            (vec![http(403, expired), http(403, expired)], 2),
            (vec![http(403, "<Error><Code>AccessDenied</Code></Error>")], 1),
            (
                vec![
                    http(403, "{\"message\":\"The security token included in the request is expired\"}"),
                    http(200, ""),
                ],
                2,
            ),
        ] {
            write("OLD", "one");
            let signer = signer(&file);
            signer.keys(None).await.unwrap();
            write("NEW", "two");
            seen.lock().unwrap().clear();
            let answers = Sync::new(answers.into_iter());
            let send = |op: Op| {
                let Op::Http { headers, .. } = op else { panic!("not http") };
                assert!(!format!("{headers:?}").contains("Signature="), "secret values are not shown");
                seen.lock().unwrap().push(headers);
                let answer = answers.lock().unwrap().next();
                async { answer.unwrap() }
            };
            signer.perform(op(Method::PUT), send).await;
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), want);
            for (headers, id) in seen.iter().zip(["OLD", "NEW"]) {
                let value = headers["authorization"].to_str().unwrap();
                assert!(value.contains(&format!("Credential={id}/20261124/eu-central-1/s3/")), "{value}");
                let names = "host;x-amz-checksum-sha256;x-amz-content-sha256;x-amz-date;x-amz-security-token";
                assert!(value.contains(&format!("SignedHeaders={names},")), "{value}");
                assert_eq!(headers["x-amz-checksum-sha256"], BASE64.encode(sha256(b"body")));
            }
        }
        // Where the new ones are the old ones, the answer stands.
        write("OLD", "one");
        let signer = signer(&file);
        let sent = Sync::new(0);
        let send = |_| {
            *sent.lock().unwrap() += 1;
            async { http(403, expired) }
        };
        signer.perform(op(Method::PUT), send).await;
        assert_eq!(*sent.lock().unwrap(), 1);
        std::fs::remove_file(&file).unwrap();
        let reply = self::signer(&file).perform(op(Method::PUT), |_| async { panic!("sent") }).await;
        let Reply::Failed { text, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(text, "aws credentials: no profile \"default\" in the shared files");
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let write = |id: &str| {
            let text = format!("[default]\naws_access_key_id={id}\naws_secret_access_key=x\n");
            std::fs::write(&file, text).unwrap();
        };
        write("NEW");
        let signer = signer(&file);
        let id = async |signer: &Signer| signer.keys(None).await.unwrap().id.reveal().to_owned();
        for (left, there, want) in
            [(3600, true, "OLD"), (301, true, "OLD"), (299, false, "OLD"), (299, true, "NEW")]
        {
            let keys = Keys {
                expires: Some(now() + SignedDuration::from_secs(left)),
                ..Keys::lasting(Secret::new("OLD"), Secret::new("x"))
            };
            let kept = Kept { keys: Arc::new(keys), fetched: now(), failed: None };
            *signer.kept.lock().await = Some(kept);
            if there {
                write("NEW")
            } else {
                std::fs::remove_file(&file).unwrap()
            }
            assert_eq!(id(&signer).await, want, "{left}");
        }
    }
}
