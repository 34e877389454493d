//! Every place that credentials come from, against its documented contract on the loopback device.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request, as the fake got it.
#[derive(Clone, Debug, Default)]
struct Request {
    /// `GET /path`
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn read(stream: &TcpStream) -> Request {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line().rsplit_once(' ').unwrap_or_default().0.to_owned();
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        Request { line: first, headers, body: String::from_utf8(body).unwrap() }
    }
}

/// A server that answers as `answer` says; it lives as long as the process.
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    fn start(answer: impl Fn(&Request) -> (u16, String) + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = Request::read(&stream);
                let (status, text) = answer(&request);
                log.lock().unwrap().push(request);
                let length = text.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
                )
                .unwrap();
            }
        });
        Fake { url, seen }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn now() -> Timestamp {
    "2026-11-24T02:30:59Z".parse().unwrap()
}

async fn keys(vars: &[(&str, &str)], options: &Credentials) -> Result<Keys, Unavailable> {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Chain::with(options, "eu-central-1", vars.collect()).keys(now()).await
}

/// The three secrets and the expiry, for comparison.
fn shown(keys: &Keys) -> String {
    let token = keys.token.as_ref().map_or("-", Secret::reveal);
    let expires = keys.expires.map_or("-".to_owned(), |time| time.to_string());
    format!("{} {} {token} {expires}", keys.id.reveal(), keys.secret.reveal())
}

fn wrong(result: Result<Keys, Unavailable>) -> String {
    match result {
        Err(Wrong(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// What STS answers (API Reference, `AssumeRole`, example).
fn sts(id: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>arn</Arn></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>s/e+c</SecretAccessKey><SessionToken>to+ken==</SessionToken>\
         <Expiration>2026-11-24T03:30:59Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

const FROM_STS: &str = "s/e+c to+ken== 2026-11-24T03:30:59Z";

fn json_keys() -> String {
    r#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"sec","Token":"tok","Expiration":"2026-11-24T08:30:59Z"}"#
        .to_owned()
}

const FROM_JSON: &str = "ASIA1 sec tok 2026-11-24T08:30:59Z";

#[tokio::test]
async fn options_come_before_the_environment() {
    let environment =
        [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "es"), ("AWS_SESSION_TOKEN", "et")];
    assert_eq!(shown(&keys(&environment, &Credentials::default()).await.unwrap()), "E es et -");
    let options = Credentials {
        access_key_id: Some(Secret::new("O")),
        secret_access_key: Some(Secret::new("os")),
        ..Credentials::default()
    };
    assert_eq!(shown(&keys(&environment, &options).await.unwrap()), "O os - -");
    let none = keys(&[("AWS_EC2_METADATA_DISABLED", "true")], &Credentials::default()).await;
    assert_eq!(wrong(none), "none in the options, the environment, a profile or a container");
}

#[tokio::test]
async fn web_identity_reads_its_token_each_time() {
    let fake = Fake::start(|_| (200, sts("ASIA2")));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let vars = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/audit"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ENDPOINT_URL_STS", &fake.url),
    ];
    for token in ["first", "second"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let got = keys(&vars, &Credentials::default()).await.unwrap();
        assert_eq!(shown(&got), format!("ASIA2 {FROM_STS}"));
    }
    let seen = fake.seen();
    for (request, token) in seen.iter().zip(["first", "second"]) {
        assert_eq!(request.line, "POST /");
        assert_eq!(
            request.body,
            format!(
                "Version=2011-06-15&Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Faudit\
                 &RoleSessionName=auditship&WebIdentityToken={token}"
            )
        );
        assert!(!request.headers.contains_key("authorization"));
    }
    std::fs::remove_file(&file).unwrap();
    let missing = wrong(keys(&vars, &Credentials::default()).await);
    assert!(missing.starts_with("read the web identity token "), "{missing}");
}

#[tokio::test]
async fn a_role_is_taken_on_with_a_signed_request() {
    let fake = Fake::start(|_| (200, sts("ASIA3")));
    let options = Credentials {
        access_key_id: Some(Secret::new("AKIA")),
        secret_access_key: Some(Secret::new("os")),
        session_token: Some(Secret::new("ot")),
        assume_role: Some(AssumeRole {
            role_arn: "arn:r".into(),
            external_id: Some(Secret::new("x y")),
            session_name: Some("node-1".into()),
        }),
        ..Credentials::default()
    };
    let vars = [("AWS_ENDPOINT_URL_STS", &*fake.url), ("AWS_REGION", "eu-west-1")];
    assert_eq!(shown(&keys(&vars, &options).await.unwrap()), format!("ASIA3 {FROM_STS}"));
    let request = fake.seen().remove(0);
    assert_eq!(
        request.body,
        "Version=2011-06-15&Action=AssumeRole&RoleArn=arn%3Ar&RoleSessionName=node-1&ExternalId=x%20y"
    );
    assert_eq!(request.headers["x-amz-security-token"], "ot");
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, ";
    let authorization = &request.headers["authorization"];
    assert!(authorization.contains("Credential=AKIA/20261124/eu-west-1/sts/aws4_request"), "{authorization}");
    assert!(authorization.contains(signed), "{authorization}");
}

#[tokio::test]
async fn refusals_of_sts_are_told_by_their_code() {
    let error = |code: &str| {
        format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>")
    };
    for (status, body, want) in [
        (403, error("AccessDenied"), "wrong sts: http 403 AccessDenied"),
        (400, error("IDPCommunicationError"), "passing sts: http 400 IDPCommunicationError"),
        (503, String::new(), "passing sts: http 503"),
        (200, "<html>".to_owned(), "wrong sts: the answer holds no credentials"),
    ] {
        let fake = Fake::start(move |_| (status, body.clone()));
        let role = AssumeRole { role_arn: "r".into(), external_id: None, session_name: None };
        let options = Credentials {
            access_key_id: Some(Secret::new("AKIA")),
            secret_access_key: Some(Secret::new("os")),
            assume_role: Some(role),
            ..Credentials::default()
        };
        let told = match keys(&[("AWS_ENDPOINT_URL_STS", &fake.url)], &options).await {
            Err(Wrong(text)) => format!("wrong {text}"),
            Err(Passing(text)) => format!("passing {text}"),
            Ok(_) => "ok".to_owned(),
        };
        assert_eq!(told, want);
    }
}

#[tokio::test]
async fn profiles_lead_to_keys_and_roles() {
    let fake = Fake::start(|_| (200, sts("ASIA4")));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let config = "[default]\nrole_arn = arn:outer\nsource_profile = middle\n\
                  [profile middle]\nrole_arn = arn:inner\nsource_profile = keys\n\
                  [profile sso]\nsso_session = x\n[profile a]\nrole_arn=r\nsource_profile=b\n\
                  [profile b]\nrole_arn=r\nsource_profile=a\n";
    std::fs::write(path("config"), config).unwrap();
    std::fs::write(path("credentials"), "[keys]\naws_access_key_id=K\naws_secret_access_key=ks\n").unwrap();
    let (config, credentials) = (path("config"), path("credentials"));
    let vars = |profile| {
        [
            ("AWS_CONFIG_FILE", &*config),
            ("AWS_SHARED_CREDENTIALS_FILE", &*credentials),
            ("AWS_ENDPOINT_URL_STS", &*fake.url),
            ("AWS_PROFILE", profile),
        ]
    };
    let none = Credentials::default();
    assert_eq!(shown(&keys(&vars("keys"), &none).await.unwrap()), "K ks - -");
    assert_eq!(shown(&keys(&vars(""), &none).await.unwrap()), format!("ASIA4 {FROM_STS}"));
    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen[0].body.contains("arn%3Ainner") && seen[0].headers["authorization"].contains("Credential=K/")
    );
    assert!(
        seen[1].body.contains("arn%3Aouter")
            && seen[1].headers["authorization"].contains("Credential=ASIA4/")
    );
    for (name, want) in [
        ("nobody", "no profile \"nobody\" in the shared files"),
        ("sso", "profile \"sso\" uses sso_session, which is not supported"),
        ("a", "more than 5 profiles refer to one another"),
    ] {
        let options = Credentials { profile: Some(name.into()), ..Credentials::default() };
        assert_eq!(wrong(keys(&vars("keys"), &options).await), want);
    }
}

#[tokio::test]
async fn the_container_hands_out_credentials() {
    let fake = Fake::start(|_| (200, json_keys()));
    let url = format!("{}/v1/credentials", fake.url);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url);
    let of_file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap());
    // EKS Pod Identity: the token is in a file that is renewed.
    for token in ["eyJ1", "eyJ2"] {
        std::fs::write(&file, token).unwrap();
        let got = keys(&[full, of_file], &Credentials::default()).await.unwrap();
        assert_eq!(shown(&got), FROM_JSON);
        let request = fake.seen().pop().unwrap();
        assert_eq!((&*request.line, &*request.headers["authorization"]), ("GET /v1/credentials", token));
    }
    // ECS: the token, if there is one, is in the environment.
    let of_env = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic x");
    assert_eq!(shown(&keys(&[full, of_env], &Credentials::default()).await.unwrap()), FROM_JSON);
    assert_eq!(fake.seen().pop().unwrap().headers["authorization"], "Basic x");
    let elsewhere = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/"), of_env];
    assert_eq!(
        wrong(keys(&elsewhere, &Credentials::default()).await),
        "the container's endpoint is neither https nor on this host"
    );
    for (url, want) in [
        ("https://example.com/", true),
        ("http://localhost:9/", true),
        ("http://169.254.170.23/v1/credentials", true),
        ("http://[fd00:ec2::23]/v1/credentials", true),
        ("http://169.254.169.254/", false),
        ("ftp://localhost/", false),
    ] {
        assert_eq!(may_hand_out(url), want, "{url}");
    }
}

#[tokio::test]
async fn the_instance_is_asked_with_a_token() {
    let fake = Fake::start(|request| {
        let token = request.headers.get("x-aws-ec2-metadata-token").map(String::as_str);
        match (&*request.line, token) {
            ("PUT /latest/api/token", None)
                if request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "300" =>
            {
                (200, "T0K3N==".to_owned())
            }
            ("GET /latest/meta-data/iam/security-credentials/", Some("T0K3N==")) => {
                (200, "node-role\n".to_owned())
            }
            ("GET /latest/meta-data/iam/security-credentials/node-role", Some("T0K3N==")) => {
                (200, json_keys())
            }
            (_, None) => (401, String::new()),
            _ => (404, String::new()),
        }
    });
    let vars = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*fake.url)];
    assert_eq!(shown(&keys(&vars, &Credentials::default()).await.unwrap()), FROM_JSON);
    assert_eq!(fake.seen().len(), 3);

    let empty = Fake::start(|_| (200, String::new()));
    let vars = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*empty.url)];
    assert_eq!(wrong(keys(&vars, &Credentials::default()).await), "the instance has no role");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let vars = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*format!("http://{closed}"))];
    match keys(&vars, &Credentials::default()).await {
        Err(Passing(text)) => assert!(text.contains("instance metadata: connect: "), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_secret_is_shown() {
    let keys = from_json("x", json_keys().as_bytes()).unwrap();
    let text = format!("{keys:?}");
    assert!(!text.contains("ASIA1") && !text.contains("sec,") && !text.contains("tok,"), "{text}");
    let Err(Wrong(text)) = from_json("x", b"{\"AccessKeyId\":\"hunter2\"}") else { panic!("taken") };
    assert_eq!(text, "x: the answer holds no credentials");
}
