//! What `redact --prove` plants: kinds of secrets, the places where they can stand, the encodings.
//!
//! Data alone; [`super::plant`] reads it. A secret's form is its text with generators in braces, and what must not
//! leave between `«` and `»`. A place is the members of an event, with slots that begin with `$`.

/// A kind of secret.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The telling name beside it; empty where the form tells by itself.
    pub key: &'static str,
    /// Its text.
    pub form: &'static str,
    /// Where it fits.
    pub size: Size,
}

/// Where a kind of secret fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// On one line, so anywhere.
    Line,
    /// A text of several lines, or a document: where whole texts stand.
    Text,
    /// The same, in gzip and base64.
    Packed,
    /// Nothing tells what it is: only where the place itself is for secrets.
    Opaque,
}

const fn line(name: &'static str, key: &'static str, form: &'static str) -> Kind {
    Kind { name, key, form, size: Size::Line }
}

const fn text(name: &'static str, key: &'static str, form: &'static str) -> Kind {
    Kind { name, key, form, size: Size::Text }
}

/// Every kind. Generators: `{mixed:N}` letters of both cases and digits, `{lower:N}` with lower-case letters only,
/// `{hex:N}`, `{upper-hex:N}`, `{digits:N}`, `{base32:N}`, `{b64:N}` base64 of N bytes, `{b64url:N}` N characters,
/// `{pem:N}` N lines of base64, `{pem-json:N}` the same with `\n` as JSON writes it, `{words:N}`, `{symbols:N}`
/// with what is hard to quote, `{crc62}` and `{crc-hex}` the checksum of the generator before, `{uuid}`,
/// `{userpass}` base64 of a user and a password, `{jwt-header}`, `{jwt-claims}`.
pub const KINDS: &[Kind] = &[
    Kind { name: "opaque", key: "", form: "«{mixed:24}»", size: Size::Opaque },
    line("password", "dbPassword", "«{mixed:16}»"),
    line("password-with-symbols", "admin-password", "«{symbols:18}»"),
    line("passphrase", "ssh_passphrase", "«{words:5}»"),
    line("client-secret", "clientSecret", "«{mixed:40}»"),
    line("api-key", "apiKey", "«{hex:32}»"),
    line("auth-token", "authToken", "«{b64url:43}»"),
    line("encryption-key", "encryption_key", "«{b64:32}»"),
    line("jwt", "", "{jwt-header}.{jwt-claims}.«{b64url:86}»"),
    line("bearer", "", "Authorization: Bearer «{b64url:40}»"),
    line("basic", "", "Authorization: Basic «{userpass}»"),
    line("url-password", "", "postgres://app:«{mixed:18}»@db.example.com:5432/app"),
    line("redis-url", "", "redis://:«{mixed:24}»@cache.example.com:6379/0"),
    line("query-token", "", "https://h.example.com/hook?x=1&access_token=«{mixed:32}»&y=2"),
    line(
        "signed-url",
        "",
        "https://b.s3.amazonaws.com/o?X-Amz-Expires=900&X-Amz-Signature=«{hex:64}»&X-Amz-SignedHeaders=host",
    ),
    line(
        "azure-sas",
        "",
        "https://a.blob.core.windows.net/c/b?sv=2024-11-04&sr=b&sig=«{b64url:43}»%3D&se=2027-01-01",
    ),
    line("connection-string", "", "Server=db.example.com;User Id=sa;Password=«{mixed:18}»;Encrypt=true"),
    line("jdbc", "", "jdbc:mysql://db.example.com:3306/app?user=app&password=«{mixed:18}»&useSSL=true"),
    line(
        "azure-storage",
        "",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=«{b64:64}»;EndpointSuffix=core.windows.net",
    ),
    line("option-password", "", "app --user=app --password «{mixed:16}» --verbose"),
    line("mysql-option", "", "mysql -h db -uroot -p«{mixed:16}» app"),
    line("curl-option", "", "curl -s -u admin:«{mixed:16}» https://h.example.com/"),
    line("env-assignment", "", "PGPASSWORD=«{mixed:16}» psql -h db -U app"),
    line("bootstrap-token", "token", "«{lower:6}.{lower:16}»"),
    line("github-token", "", "ghp_«{mixed:30}{crc62}»"),
    line("github-fine-grained", "", "github_pat_«{mixed:22}_{mixed:59}»"),
    line("gitlab-token", "", "glpat-«{b64url:20}»"),
    line("slack-token", "", "xoxb-{digits:12}-{digits:12}-«{mixed:24}»"),
    line("slack-webhook", "", "https://hooks.slack.com/services/T{upper-hex:8}/B{upper-hex:10}/«{mixed:24}»"),
    line("aws-access-key-id", "", "AKIA«{base32:16}»"),
    line("aws-secret-key", "AWS_SECRET_ACCESS_KEY", "«{b64:30}»"),
    line("google-api-key", "", "AIza«{b64url:35}»"),
    line("azure-client-secret", "AZURE_CLIENT_SECRET", "«{mixed:3}8Q~{b64url:34}»"),
    line("npm-token", "", "npm_«{mixed:30}{crc62}»"),
    line("pypi-token", "", "pypi-AgEIcHlwaS5vcmc«{b64url:150}»"),
    line("stripe-key", "", "sk_live_«{mixed:24}»"),
    line("sendgrid-key", "", "SG.«{b64url:22}.{b64url:43}»"),
    line("twilio-key", "", "SK«{hex:32}»"),
    line("vault-token", "", "hvs.«{b64url:90}»"),
    line("datadog-key", "DD_API_KEY", "«{hex:32}»"),
    line("openai-key", "", "sk-proj-«{b64url:74}T3BlbkFJ{b64url:74}»"),
    line("anthropic-key", "", "sk-ant-api03-«{b64url:93}»AA"),
    line("digitalocean-token", "", "dop_v1_«{hex:64}»"),
    line("huggingface-token", "", "hf_«{mixed:34}»"),
    line("openshift-token", "", "sha256~«{b64url:43}»"),
    line("age-key", "", "AGE-SECRET-KEY-1«{base32:58}»"),
    line("atlassian-token", "", "ATATT3xFfGF0«{b64url:172}»={crc-hex}"),
    line("pgpass", "", "db.example.com:5432:app:app:«{mixed:16}»"),
    line("htpasswd", "", "admin:$2y$10$«{mixed:53}»"),
    text("private-key", "", "-----BEGIN PRIVATE KEY-----\n«{pem:3}»\n-----END PRIVATE KEY-----\n"),
    text(
        "ssh-private-key",
        "",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n«{pem:6}»\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    text(
        "pgp-private-key",
        "",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n«{pem:6}»\n-----END PGP PRIVATE KEY BLOCK-----\n",
    ),
    text(
        "google-service-account",
        "",
        "{\"type\":\"service_account\",\"project_id\":\"p\",\"private_key_id\":\"{hex:40}\",\"private_key\":\
         \"-----BEGIN PRIVATE KEY-----\\n«{pem-json:3}»\\n-----END PRIVATE KEY-----\\n\",\"client_email\":\"a@p.iam\"}",
    ),
    text(
        "kubeconfig",
        "",
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443\nusers:\n\
         - name: admin\n  user:\n    client-key-data: «{b64:120}»\n    token: «{b64url:43}»\ncurrent-context: c\n",
    ),
    text(
        "kubeconfig-password",
        "",
        "apiVersion: v1\nkind: Config\nusers:\n- name: admin\n  user:\n    username: admin\n    password: «{mixed:16}»\n",
    ),
    text(
        "dockerconfigjson",
        "",
        "{\"auths\":{\"r.example.com\":{\"username\":\"robot\",\"password\":\"«{mixed:20}»\",\"auth\":\"«{userpass}»\"}}}",
    ),
    text("docker-auth", "", "{\"auths\":{\"r.example.com\":{\"auth\":\"«{userpass}»\"}}}"),
    text("env-file", "", "# production\nexport DB_HOST=db\nexport DB_PASSWORD='«{mixed:16}»'\nDEBUG=0\n"),
    text("properties", "", "app.name=x\nspring.datasource.password=«{mixed:16}»\nserver.port=80\n"),
    text("ini", "", "[database]\nhost = db\npassword = «{mixed:16}»\n\n[log]\nlevel = info\n"),
    text("toml", "", "[database]\nhost = \"db\"\npassword = \"«{mixed:16}»\"\n"),
    text(
        "xml-attribute",
        "",
        "<server>\n  <resource name=\"db\" username=\"app\" password=\"«{mixed:16}»\"/>\n</server>\n",
    ),
    text(
        "xml-element",
        "",
        "<server>\n  <username>app</username>\n  <password>«{mixed:16}»</password>\n</server>\n",
    ),
    text("netrc", "", "machine git.example.com\n  login app\n  password «{mixed:16}»\n"),
    text("npmrc", "", "registry=https://r.example.com/\n//r.example.com/:_authToken=«{uuid}»\n"),
    text("git-credentials", "", "https://app:«{mixed:20}»@git.example.com\n"),
    text("terraform-variables", "", "region      = \"eu-1\"\ndb_password = \"«{mixed:16}»\"\n"),
    text("sql", "", "CREATE USER app WITH PASSWORD '«{mixed:16}»';\nGRANT ALL ON app TO app;\n"),
    Kind {
        name: "helm-release",
        key: "",
        form: "{\"name\":\"app\",\"config\":{\"postgresql\":{\"auth\":{\"password\":\"«{mixed:16}»\"}}},\
               \"chart\":{\"metadata\":{\"name\":\"app\",\"version\":\"1.2.3\"}},\"version\":1,\"namespace\":\"default\"}",
        size: Size::Packed,
    },
];

/// A place in an event.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// What can stand there.
    pub takes: Takes,
    /// In which encodings.
    pub encodings: &'static [Encoding],
    /// Members of the event, over those that every event has. Slots: `$KEY`, `$ENV` the name, as it is and as a
    /// variable's; `$VALUE` the text; `$B64` the same in base64, `$LINE` with its name before it, `$SHELL` the
    /// same as a shell wants it, `$FLAG` as an option, `$ARGS` as arguments, `$QUERY` as a parameter, `$SEGMENT` as part of a path, `$EXEC` as a command's
    /// parameters, `$YAML` as a member in YAML. `{"$json": …}` is a string that holds the JSON.
    pub event: &'static str,
}

/// What can stand at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One line.
    Lines,
    /// Any text.
    Texts,
    /// Any text; whatever it is, it is secret by its place.
    Secrets,
    /// A token.
    Tokens,
}

/// How a secret is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// With JSON escapes that need not be.
    Escaped,
    /// In a JSON document in the string.
    Json,
    /// In a JSON document in a string of a JSON document in the string.
    JsonTwice,
    /// In a YAML document.
    Yaml,
    /// In the second document of a YAML stream.
    YamlStream,
    /// In a line of a file of properties.
    Properties,
    /// Percent-encoded, in a URL.
    Percent,
    /// Base64.
    Base64,
    /// Base64 of the URL-safe alphabet, without padding.
    Base64Url,
    /// Base64 in lines of 76.
    Base64Wrapped,
    /// Base64 of a JSON document.
    Base64Json,
    /// Base64 of a YAML document.
    Base64Yaml,
    /// Base64 of base64.
    Base64Twice,
    /// Base64 of a gzipped JSON document.
    Gzip,
}

impl Encoding {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Plain => "plain",
            Encoding::Escaped => "escaped",
            Encoding::Json => "json",
            Encoding::JsonTwice => "json-twice",
            Encoding::Yaml => "yaml",
            Encoding::YamlStream => "yaml-stream",
            Encoding::Properties => "properties",
            Encoding::Percent => "percent",
            Encoding::Base64 => "base64",
            Encoding::Base64Url => "base64-url",
            Encoding::Base64Wrapped => "base64-wrapped",
            Encoding::Base64Json => "base64-json",
            Encoding::Base64Yaml => "base64-yaml",
            Encoding::Base64Twice => "base64-twice",
            Encoding::Gzip => "gzip",
        }
    }

    /// Whether it makes sense for text of several lines.
    pub fn takes_text(self) -> bool {
        !matches!(self, Encoding::Properties | Encoding::Percent)
    }
}

use Encoding::{
    Base64, Base64Json, Base64Twice, Base64Url, Base64Wrapped, Base64Yaml, Escaped, Gzip, Json, JsonTwice,
    Percent, Plain, Properties, Yaml, YamlStream,
};

/// Where whole files stand.
const ALL: &[Encoding] = &[
    Plain,
    Escaped,
    Json,
    JsonTwice,
    Yaml,
    YamlStream,
    Properties,
    Percent,
    Base64,
    Base64Url,
    Base64Wrapped,
    Base64Json,
    Base64Yaml,
    Base64Twice,
    Gzip,
];
/// Where a value stands, of which the place is what is in question.
const SOME: &[Encoding] = &[Plain, Json, Base64];
const BARE: &[Encoding] = &[Plain];
const TOLD: &[Encoding] = &[Plain, Escaped];

const fn place(
    name: &'static str,
    takes: Takes,
    encodings: &'static [Encoding],
    event: &'static str,
) -> Place {
    Place { name, takes, encodings, event }
}

use Takes::{Lines, Secrets, Texts, Tokens};

/// The place whose line breaks off behind the secret.
pub const TORN: &str = "torn-line";

/// Every place.
pub const PLACES: &[Place] = &[
    place(
        "secret-data",
        Secrets,
        SOME,
        r#"{"verb":"create","objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"app"},"data":{"$KEY":"$B64"},"type":"Opaque"}}"#,
    ),
    place(
        "secret-string-data",
        Secrets,
        TOLD,
        r#"{"verb":"update","objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"app"},"stringData":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "secret-response",
        Secrets,
        BARE,
        r#"{"verb":"get","objectRef":{"resource":"secrets"},"responseObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"app"},"data":{"$KEY":"$B64"}}}"#,
    ),
    place(
        "secret-list",
        Secrets,
        BARE,
        r#"{"verb":"list","objectRef":{"resource":"secrets"},"responseObject":{"kind":"SecretList","apiVersion":"v1","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"},"data":{"$KEY":"$B64"}}]}}"#,
    ),
    place(
        "secret-table-row",
        Secrets,
        BARE,
        r#"{"verb":"list","objectRef":{"resource":"secrets"},"responseObject":{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["app","Opaque",1],"object":{"kind":"Secret","apiVersion":"v1","data":{"$KEY":"$B64"}}}]}}"#,
    ),
    place(
        "secret-watch-event",
        Secrets,
        BARE,
        r#"{"verb":"watch","objectRef":{"resource":"secrets"},"responseObject":{"type":"MODIFIED","object":{"kind":"Secret","apiVersion":"v1","data":{"$KEY":"$B64"}}}}"#,
    ),
    place(
        "secret-json-patch",
        Secrets,
        BARE,
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":[{"op":"test","path":"/metadata/name","value":"app"},{"op":"replace","path":"/data/$KEY","value":"$B64"}]}"#,
    ),
    place(
        "secret-json-patch-parent",
        Secrets,
        BARE,
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":[{"op":"add","path":"","value":{"metadata":{"name":"app"},"stringData":{"$KEY":"$VALUE"}}}]}"#,
    ),
    place(
        "secret-merge-patch",
        Secrets,
        BARE,
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":{"data":{"$KEY":"$B64"}}}"#,
    ),
    place(
        "secret-apply",
        Secrets,
        BARE,
        r#"{"verb":"patch","requestURI":"/api/v1/namespaces/default/secrets/app?fieldManager=kubectl&force=true","objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"app"},"stringData":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "secret-last-applied",
        Secrets,
        BARE,
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":{"$json":{"apiVersion":"v1","kind":"Secret","metadata":{"name":"app"},"data":{"$KEY":"$B64"}}}}}}}"#,
    ),
    place(
        "secret-webhook-patch",
        Secrets,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"secrets"},"annotations":{"patch.webhook.admission.k8s.io/round_0_index_0":{"$json":{"configuration":"c","webhook":"w.example.com","patch":[{"op":"add","path":"/data/$KEY","value":"$B64"}],"patchType":"JSONPatch"}}}}"#,
    ),
    place(
        "secret-in-other-object",
        Secrets,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"applications","apiGroup":"example.com"},"requestObject":{"kind":"Application","apiVersion":"example.com/v1","spec":{"manifests":[{"kind":"Secret","apiVersion":"v1","stringData":{"$KEY":"$VALUE"}}]}}}"#,
    ),
    place(
        "secret-manifest-json",
        Secrets,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","apiVersion":"v1","data":{"secret.json":{"$json":{"kind":"Secret","apiVersion":"v1","stringData":{"$KEY":"$VALUE"}}}}}}"#,
    ),
    place(
        "secret-manifest-yaml",
        Secrets,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","apiVersion":"v1","data":{"secret.yaml":"apiVersion: v1\nkind: Secret\nmetadata:\n  name: app\nstringData:\n  $YAML\n"}}}"#,
    ),
    place(
        "token-review",
        Tokens,
        TOLD,
        r#"{"verb":"create","objectRef":{"resource":"tokenreviews","apiGroup":"authentication.k8s.io"},"requestObject":{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"$VALUE"}}}"#,
    ),
    place(
        "token-request",
        Tokens,
        TOLD,
        r#"{"verb":"create","objectRef":{"resource":"serviceaccounts","subresource":"token"},"responseObject":{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"$VALUE"}}}"#,
    ),
    place(
        TORN,
        Secrets,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","apiVersion":"v1","stringData":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "configmap-data",
        Texts,
        ALL,
        r#"{"verb":"create","objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"app"},"data":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "configmap-binary-data",
        Texts,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"app"},"binaryData":{"$KEY":"$B64"}}}"#,
    ),
    place(
        "configmap-list",
        Texts,
        SOME,
        r#"{"verb":"list","objectRef":{"resource":"configmaps"},"responseObject":{"kind":"ConfigMapList","apiVersion":"v1","items":[{"metadata":{"name":"app"},"data":{"$KEY":"$VALUE"}}]}}"#,
    ),
    place(
        "configmap-json-patch",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"configmaps"},"requestObject":[{"op":"replace","path":"/data/$KEY","value":"$VALUE"}]}"#,
    ),
    place(
        "configmap-merge-patch",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"configmaps"},"requestObject":{"data":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "configmap-last-applied",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"configmaps"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":{"$json":{"apiVersion":"v1","kind":"ConfigMap","data":{"$KEY":"$VALUE"}}}}}}}"#,
    ),
    place(
        "configmap-webhook-patch",
        Texts,
        SOME,
        r#"{"verb":"create","objectRef":{"resource":"configmaps"},"annotations":{"patch.webhook.admission.k8s.io/round_0_index_0":{"$json":{"configuration":"c","webhook":"w.example.com","patch":[{"op":"add","path":"/data","value":{"$KEY":"$VALUE"}}],"patchType":"JSONPatch"}}}}"#,
    ),
    place(
        "custom-resource",
        Texts,
        ALL,
        r#"{"verb":"update","objectRef":{"resource":"databases","apiGroup":"example.com"},"requestObject":{"kind":"Database","apiVersion":"example.com/v1","metadata":{"name":"app"},"spec":{"nodes":[{"$KEY":"$VALUE"}]}}}"#,
    ),
    place(
        "custom-resource-response",
        Texts,
        SOME,
        r#"{"verb":"get","objectRef":{"resource":"databases","apiGroup":"example.com"},"responseObject":{"kind":"Database","apiVersion":"example.com/v1","status":{"$KEY":"$VALUE"}}}"#,
    ),
    place(
        "custom-resource-json-patch",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"databases","apiGroup":"example.com"},"requestObject":[{"op":"add","path":"/spec/$KEY","value":"$VALUE"}]}"#,
    ),
    place(
        "env-value",
        Texts,
        ALL,
        r#"{"verb":"create","objectRef":{"resource":"pods"},"requestObject":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"app"},"spec":{"containers":[{"name":"app","image":"app:1","env":[{"name":"MODE","value":"x"},{"name":"$ENV","value":"$VALUE"}]}]}}}"#,
    ),
    place(
        "env-value-response",
        Texts,
        SOME,
        r#"{"verb":"get","objectRef":{"resource":"deployments","apiGroup":"apps"},"responseObject":{"kind":"Deployment","apiVersion":"apps/v1","spec":{"template":{"spec":{"initContainers":[{"name":"app","env":[{"name":"$ENV","value":"$VALUE"}]}]}}}}}"#,
    ),
    place(
        "env-value-json-patch",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"deployments","apiGroup":"apps"},"requestObject":[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"$ENV","value":"$VALUE"}}]}"#,
    ),
    place(
        "env-value-last-applied",
        Texts,
        SOME,
        r#"{"verb":"patch","objectRef":{"resource":"deployments","apiGroup":"apps"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":{"$json":{"kind":"Deployment","apiVersion":"apps/v1","spec":{"template":{"spec":{"containers":[{"env":[{"name":"$ENV","value":"$VALUE"}]}]}}}}}}}}}"#,
    ),
    place(
        "http-header",
        Lines,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"pods"},"requestObject":{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"livenessProbe":{"httpGet":{"path":"/","httpHeaders":[{"name":"X-$KEY","value":"$VALUE"}]}}}]}}}"#,
    ),
    place(
        "args",
        Lines,
        TOLD,
        r#"{"verb":"create","objectRef":{"resource":"pods"},"requestObject":{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"name":"app","command":["serve"],"args":["--verbose","$FLAG"]}]}}}"#,
    ),
    place(
        "args-apart",
        Lines,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"jobs","apiGroup":"batch"},"requestObject":{"kind":"Job","apiVersion":"batch/v1","spec":{"template":{"spec":{"containers":[{"name":"app","args":["$ARGS"]}]}}}}}"#,
    ),
    place(
        "command-shell",
        Lines,
        TOLD,
        r#"{"verb":"create","objectRef":{"resource":"cronjobs","apiGroup":"batch"},"requestObject":{"kind":"CronJob","apiVersion":"batch/v1","spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"command":["sh","-c","set -e; $SHELL"]}]}}}}}}}"#,
    ),
    place(
        "annotation",
        Texts,
        ALL,
        r#"{"verb":"update","objectRef":{"resource":"services"},"requestObject":{"kind":"Service","apiVersion":"v1","metadata":{"name":"app","annotations":{"example.com/$KEY":"$VALUE"}}}}"#,
    ),
    place(
        "uri-query",
        Lines,
        BARE,
        r#"{"verb":"get","requestURI":"/api/v1/namespaces/default/pods?$QUERY&limit=5","objectRef":{"resource":"pods"}}"#,
    ),
    place(
        "exec-command",
        Lines,
        BARE,
        r#"{"verb":"create","requestURI":"/api/v1/namespaces/default/pods/app/exec?command=sh&command=-c&$EXEC&stdout=true","objectRef":{"resource":"pods","subresource":"exec"}}"#,
    ),
    place(
        "proxy-path",
        Lines,
        BARE,
        r#"{"verb":"get","requestURI":"/api/v1/namespaces/default/services/http:app:80/proxy/reset/$SEGMENT/confirm","objectRef":{"resource":"services","subresource":"proxy"}}"#,
    ),
    place(
        "proxy-query",
        Lines,
        BARE,
        r#"{"verb":"get","requestURI":"/api/v1/namespaces/default/services/http:app:80/proxy/login?$QUERY","objectRef":{"resource":"services","subresource":"proxy"}}"#,
    ),
    place(
        "user-agent",
        Lines,
        TOLD,
        r#"{"verb":"get","objectRef":{"resource":"pods"},"userAgent":"app/1.0 $LINE"}"#,
    ),
    place(
        "response-message",
        Lines,
        TOLD,
        r#"{"verb":"create","objectRef":{"resource":"pods"},"responseStatus":{"status":"Failure","code":400,"message":"admission webhook \"w.example.com\" denied the request: cannot use $LINE"}}"#,
    ),
    place(
        "response-invalid-value",
        Lines,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"pods"},"responseStatus":{"status":"Failure","code":422,"message":"Pod \"app\" is invalid: spec.$KEY: Invalid value: \"$VALUE\": must be shorter"}}"#,
    ),
    place(
        "event-message",
        Lines,
        BARE,
        r#"{"verb":"create","objectRef":{"resource":"events"},"requestObject":{"kind":"Event","apiVersion":"v1","reason":"Failed","message":"Error: cannot start: $LINE"}}"#,
    ),
    place(
        "user-extra",
        Lines,
        TOLD,
        r#"{"verb":"get","objectRef":{"resource":"pods"},"user":{"username":"alice@example.com","groups":["system:authenticated"],"extra":{"$KEY":["$VALUE"]}}}"#,
    ),
    place(
        "impersonated-extra",
        Lines,
        BARE,
        r#"{"verb":"get","objectRef":{"resource":"pods"},"impersonatedUser":{"username":"bob","extra":{"example.com/$KEY":["$VALUE"]}}}"#,
    ),
    place(
        "audit-annotation",
        Texts,
        SOME,
        r#"{"verb":"get","objectRef":{"resource":"pods"},"annotations":{"authorization.k8s.io/decision":"allow","w.example.com/$KEY":"$VALUE"}}"#,
    ),
];
