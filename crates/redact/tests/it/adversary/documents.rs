//! Texts that hold a credential, each telling so in the way of its format.

use super::chance::Chance;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";

/// A text and what must not be readable from it any more.
#[derive(Clone, Debug)]
pub struct Planted {
    pub text: String,
    pub canary: String,
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Document {
    Token,
    Jwt,
    Pem,
    Header,
    Url,
    Query,
    Jdbc,
    Json,
    NameValue,
    SecretJson,
    SecretYaml,
    SecretsYaml,
    Docker,
    ServiceAccount,
    Kubeconfig,
    Yaml,
    YamlList,
    Properties,
    Env,
    Toml,
    XmlElement,
    XmlAttribute,
    Option,
    Mysql,
    Variable,
    ConnectionString,
    Netrc,
    Pgpass,
}

pub const ALL: &[Document] = &[
    Document::Token,
    Document::Jwt,
    Document::Pem,
    Document::Header,
    Document::Url,
    Document::Query,
    Document::Jdbc,
    Document::Json,
    Document::NameValue,
    Document::SecretJson,
    Document::SecretYaml,
    Document::SecretsYaml,
    Document::Docker,
    Document::ServiceAccount,
    Document::Kubeconfig,
    Document::Yaml,
    Document::YamlList,
    Document::Properties,
    Document::Env,
    Document::Toml,
    Document::XmlElement,
    Document::XmlAttribute,
    Document::Option,
    Document::Mysql,
    Document::Variable,
    Document::ConnectionString,
    Document::Netrc,
    Document::Pgpass,
];

/// Keys that tell, in the styles in which they are written.
const CAMEL: &[&str] =
    &["password", "dbPassword", "apiKey", "clientSecret", "accessToken", "privateKey", "passphrase"];
const DASHED: &[&str] = &["password", "db-password", "api-key", "client-secret", "auth-token", "passwd"];
const SNAKE: &[&str] =
    &["password", "db_password", "api_key", "client_secret", "auth_token", "secret_access_key"];
const CAPITALS: &[&str] =
    &["DB_PASSWORD", "API_KEY", "AWS_SECRET_ACCESS_KEY", "CLIENT_SECRET", "GITHUB_TOKEN", "PASSWORD"];

/// Something that vendors' tokens look like.
fn token(chance: &mut Chance) -> String {
    match chance.below(10) {
        0 => format!("ghp_{}", chance.word(ALNUM, 36)),
        1 => format!("glpat-{}", chance.word(ALNUM, 20)),
        2 => format!("xoxb-{}-{}", chance.word(b"0123456789", 11), chance.word(ALNUM, 24)),
        3 => format!("npm_{}", chance.word(ALNUM, 36)),
        4 => format!("sk_live_{}", chance.word(ALNUM, 24)),
        5 => format!("hvs.{}", chance.word(ALNUM, 24)),
        6 => format!("AIza{}", chance.word(ALNUM, 35)),
        7 => format!("dop_v1_{}", chance.word(HEX, 64)),
        8 => format!("sk-ant-api03-{}", chance.word(ALNUM, 64)),
        _ => format!("SG.{}.{}", chance.word(ALNUM, 22), chance.word(ALNUM, 43)),
    }
}

/// What no name is and no detector knows: it goes because of what stands beside it.
fn opaque(chance: &mut Chance) -> String {
    let length = 14 + chance.below(12);
    let word = chance.word(ALNUM, length);
    // Both cases and digits in any case, so that weak names take it too.
    format!("{word}Q7x")
}

fn base64url(text: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

impl Document {
    pub fn write(self, chance: &mut Chance) -> Planted {
        let word = opaque(chance);
        let text = match self {
            Document::Token => {
                let token = token(chance);
                let around = *chance.pick(&[("", ""), ("use ", " for it"), ("key=", "\nx=1\n"), ("'", "'")]);
                return Planted { text: format!("{}{token}{}", around.0, around.1), canary: token };
            }
            Document::Jwt => {
                let signature = chance.word(ALNUM, 43);
                let head = base64url(r#"{"alg":"RS256","typ":"JWT"}"#);
                let claims = base64url(&format!(r#"{{"sub":"{}"}}"#, chance.word(ALNUM, 8)));
                let text = format!("token is {head}.{claims}.{signature}\n");
                return Planted { text, canary: signature };
            }
            Document::Pem => pem(&word, chance),
            Document::Docker => docker(&word),
            Document::ServiceAccount => {
                json!({"type": "service_account", "private_key_id": "a1", "private_key": pem(&word, chance)})
                    .to_string()
            }
            _ => self.named(&word, chance),
        };
        Planted { text, canary: word }
    }

    /// Formats in which a name tells.
    fn named(self, word: &str, chance: &mut Chance) -> String {
        let camel = *chance.pick(CAMEL);
        let dashed = *chance.pick(DASHED);
        let snake = *chance.pick(SNAKE);
        let capitals = *chance.pick(CAPITALS);
        match self {
            Document::Header => match chance.below(3) {
                0 => format!("Authorization: Bearer {word}"),
                1 => format!("Authorization: Basic {}", BASE64.encode(format!("user:{word}"))),
                _ => format!("X-Api-Key: {word}\nAccept: */*\n"),
            },
            Document::Url => format!("postgres://app:{word}@db.example.com:5432/app?sslmode=require"),
            Document::Query => format!("https://example.com/hook?id=7&{snake}={word}&x=1"),
            Document::Jdbc => format!("jdbc:postgresql://db.example.com/app?user=u&password={word}"),
            Document::Json => json!({"a": 1, "b": {camel: word, "c": [true]}}).to_string(),
            Document::NameValue => json!({"env": [{"name": capitals, "value": word}]}).to_string(),
            Document::SecretJson | Document::SecretYaml | Document::SecretsYaml => self.secret(word, chance),
            Document::Kubeconfig => format!(
                "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    token: {word}\n    client-key-data: {}\n",
                BASE64.encode(pem(word, chance))
            ),
            Document::Yaml => match chance.below(3) {
                0 => format!("a: 1\ndb:\n  {camel}: {word}\n"),
                1 => format!("a: 1\n{snake}: \"{word}\"\nb: 2\n"),
                _ => format!("---\na: 1\n---\n{dashed}: '{word}'\n"),
            },
            Document::YamlList => format!("users:\n  - name: a\n    {camel}: {word}\n  - {camel}: {word}\n"),
            Document::Properties => {
                format!("a.b=1\nspring.{dashed}{}{word}\nc=2\n", chance.pick(&["=", " = ", ": "]))
            }
            Document::Env => format!("A=1\n{}{capitals}={word}\n", chance.pick(&["", "export "])),
            Document::Toml => format!("[section]\n{snake} = \"{word}\"\n"),
            Document::XmlElement => format!("<c><{camel}>{word}</{camel}></c>"),
            Document::XmlAttribute => format!("<db user=\"u\" {camel}=\"{word}\"/>"),
            Document::Option => match chance.below(2) {
                0 => format!("app --{dashed} {word} --verbose"),
                _ => format!("app --{dashed}={word} --verbose"),
            },
            Document::Mysql => format!("mysql -uroot -p{word} -e 'select 1'"),
            Document::Variable => format!("{capitals}={word} psql -h db"),
            Document::ConnectionString => {
                format!(
                    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey={word};EndpointSuffix=example.com"
                )
            }
            Document::Netrc => format!("machine h.example.com\nlogin u\npassword {word}\n"),
            Document::Pgpass => format!("db.example.com:5432:app:user:{word}\n"),
            _ => unreachable!("written without a name"),
        }
    }

    fn secret(self, word: &str, chance: &mut Chance) -> String {
        let (data, string) = (BASE64.encode(word), word);
        match self {
            Document::SecretJson => match chance.below(2) {
                0 => json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": data}, "metadata": {"name": "s"}}),
                _ => json!({"stringData": {"k": string}, "kind": "Secret", "apiVersion": "v1"}),
            }
            .to_string(),
            Document::SecretYaml => match chance.below(2) {
                0 => format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  k: {data}\n"),
                _ => format!("apiVersion: v1\nkind: Secret\nstringData:\n  k: {string}\n"),
            },
            _ => format!(
                "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n---\napiVersion: v1\nkind: Secret\nstringData:\n  k: |\n    {string}\n"
            ),
        }
    }
}

fn pem(word: &str, chance: &mut Chance) -> String {
    let kind = chance.pick(&["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"]);
    let (before, after) = (chance.word(ALNUM, 64), chance.word(ALNUM, 20));
    format!("-----BEGIN {kind}-----\n{before}\n{word}{after}\n-----END {kind}-----\n")
}

fn docker(word: &str) -> String {
    let auth = BASE64.encode(format!("u:{word}"));
    json!({"auths": {"registry.example.com": {"username": "u", "password": word, "auth": auth}}}).to_string()
}
