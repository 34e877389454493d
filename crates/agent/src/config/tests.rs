//! The messages of the loader, against a small model of its own, so that they stand still when the real one grows.

mod layers;
mod model;
mod secrets;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use serde::Deserialize;

use super::load::load_as;
use super::origin::Shape;
use super::{Config, ConfigError, Located, load};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    cluster: Option<String>,
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
    #[serde(default)]
    routes: Vec<Route>,
    limits: Option<Limits>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its reading is tested")]
struct Output {
    endpoint: String,
    auth: Option<Auth>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    compression: Option<Compression>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its reading is tested")]
struct Auth {
    api_key: Option<Key>,
    retries: Option<u8>,
}

/// A secret with a judgement that repeats it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
#[expect(dead_code, reason = "only its reading is tested")]
struct Key(String);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_ascii() { Ok(Self(text)) } else { Err(format!("{text} is not ASCII")) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compression {
    Gzip,
    Zstd,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Route {
    name: String,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    r#continue: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory: u64,
}

const SHAPE: Shape = Shape {
    secret: |words| matches!(words, ["outputs", _, "auth" | "headers", ..]),
    resolves: |words| matches!(words, ["cluster"] | ["outputs", _, "auth" | "headers", ..]),
    open: &["cluster", "routes", "limits"],
    extra: |words| match words {
        ["outputs", _] => &["type"],
        _ => &[],
    },
};

/// What a test gives: files with their texts, variables, arguments.
#[derive(Default)]
struct Given<'a> {
    files: &'a [(&'a str, &'a str)],
    env: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
}

fn loaded(given: &Given<'_>) -> Result<(Model, Located), ConfigError> {
    let files: Vec<PathBuf> = given.files.iter().map(|(name, _)| PathBuf::from(name)).collect();
    let env = given.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let set: Vec<String> = given.set.iter().map(|&argument| argument.to_owned()).collect();
    let read = |path: &Path| match given.files.iter().find(|(name, _)| Path::new(name) == path) {
        Some((_, "<directory>")) => Err(io::ErrorKind::IsADirectory.into()),
        Some((_, "<latin1>")) => Err(io::ErrorKind::InvalidData.into()),
        Some((_, "<missing>")) | None => Err(io::ErrorKind::NotFound.into()),
        Some((_, text)) => Ok((*text).to_owned()),
    };
    load_as(&files, env, &set, &read, SHAPE)
}

/// Loads the real model from one file.
pub(super) fn config(text: &str) -> Result<(Config, Located), ConfigError> {
    let env = [("NODE_NAME".to_owned(), "node-1".to_owned())];
    let read = |path: &Path| match path.to_str() {
        Some("a.yaml") => Ok(text.to_owned()),
        Some("/key") => Ok("k3y\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    load(&[PathBuf::from("a.yaml")], env.into_iter(), &[], &read)
}

/// What the real model says of `text`: its error, or its warnings.
pub(super) fn check_real(text: &str, expect: Expect) {
    let shown = match config(text) {
        Ok((_, located)) => located.warnings().iter().map(|warning| format!("{warning}\n")).collect(),
        Err(error) => format!("{error}\n"),
    };
    expect.assert_eq(&shown);
}

fn check_given(given: &Given<'_>, expect: Expect) {
    match loaded(given) {
        Ok((model, _)) => panic!("no error: {model:?}"),
        Err(error) => expect.assert_eq(&format!("{error}\n")),
    }
}

fn check(text: &str, expect: Expect) {
    check_given(&Given { files: &[("a.yaml", text)], ..Given::default() }, expect);
}

fn check_set(set: &[&str], expect: Expect) {
    let files = [("a.yaml", "outputs: {s: {endpoint: e}}\nroutes: [{name: a}]\n")];
    check_given(&Given { files: &files, set, ..Given::default() }, expect);
}

fn check_env(env: &[(&str, &str)], expect: Expect) {
    let files = [("a.yaml", "outputs: {s: {endpoint: e}}\nroutes: [{name: a}]\n")];
    check_given(&Given { files: &files, env, ..Given::default() }, expect);
}

#[test]
fn unknown_keys_are_errors_at_every_level() {
    check(
        "cluster: x\noutput: {}\n",
        expect![[r#"
        error: unknown key `output`
         --> a.yaml:2:1
          |
        2 | output: {}
          | ^^^^^^ expected one of `cluster`, `outputs`, `routes`, `limits`
        help: did you mean `outputs`?
    "#]],
    );
    check(
        "outputs:\n  search:\n    endpont: https://x\n",
        expect![[r#"
        error: unknown key `endpont` in `outputs.search`
         --> a.yaml:3:5
          |
        3 |     endpont: <hidden>
          |     ^^^^^^^ expected one of `type`, `endpoint`, `auth`, `headers`, `compression`
        help: did you mean `endpoint`?
    "#]],
    );
    check(
        "outputs: {s: {endpoint: e, typ: x}}\n",
        expect![[r#"
        error: unknown key `typ` in `outputs.s`
         --> a.yaml:1:28
          |
        1 | outputs: {s: {endpoint: e, typ: <hidden>}}
          |                            ^^^ expected one of `type`, `endpoint`, `auth`, `headers`, `compression`
        help: did you mean `type`?
    "#]],
    );
    check(
        "routes:\n  - name: a\n  - {name: b, user_groups: [x]}\n",
        expect![[r#"
        error: unknown key `user_groups` in `routes[1]`
         --> a.yaml:3:15
          |
        3 |   - {name: b, user_groups: [x]}
          |               ^^^^^^^^^^^ expected one of `name`, `userGroups`, `continue`
        help: did you mean `userGroups`?
    "#]],
    );
    check(
        "routes:\n  - name: a\n    bananas: 1\n",
        expect![[r#"
        error: unknown key `bananas` in `routes[0]`
         --> a.yaml:3:5
          |
        3 |     bananas: 1
          |     ^^^^^^^ expected one of `name`, `userGroups`, `continue`
    "#]],
    );
    check(
        "outputs.s: {}\n",
        expect![[r#"
        error: unknown key `outputs.s`
         --> a.yaml:1:1
          |
        1 | outputs.s: {}
          | ^^^^^^^^^ expected one of `cluster`, `outputs`, `routes`, `limits`
        help: did you mean `outputs`?
    "#]],
    );
    check(
        "outputs:\n  s:\n    <<: {endpoint: x}\n",
        expect![[r#"
        error: unknown key `<<` in `outputs.s`
         --> a.yaml:3:5
          |
        3 |     <<: {endpoint: <hidden>}
          |     ^^ expected one of `type`, `endpoint`, `auth`, `headers`, `compression`
        help: YAML merge keys are not accepted; write the values out
    "#]],
    );
}

#[test]
fn wrong_types_say_what_is_expected() {
    check(
        "cluster: [a, b]\n",
        expect![[r#"
        error: wrong type for `cluster`
         --> a.yaml:1:1
          |
        1 | cluster: [a, b]
          | ^^^^^^^ expected text, found a list
    "#]],
    );
    check(
        "routes: {name: a}\n",
        expect![[r#"
        error: wrong type for `routes`
         --> a.yaml:1:1
          |
        1 | routes: {name: a}
          | ^^^^^^ expected a list, found a map
    "#]],
    );
    check(
        "routes:\n",
        expect![[r#"
        error: wrong type for `routes`
         --> a.yaml:1:7
          |
        1 | routes:
          |       ^ expected a list, found nothing
        help: remove the key, or write `[]` for an empty list
    "#]],
    );
    check(
        "outputs:\n  s:\n",
        expect![[r#"
        error: wrong type for `outputs.s`
         --> a.yaml:2:4
          |
        2 |   s:
          |    ^ expected a map, found nothing
        help: remove the key, or write `{}` for an empty map
    "#]],
    );
    check(
        "routes: [{name: a, continue: yes}]\n",
        expect![[r#"
        error: wrong type for `routes[0].continue`
         --> a.yaml:1:30
          |
        1 | routes: [{name: a, continue: yes}]
          |                              ^^^ expected `true` or `false`, found "yes"
        help: did you mean `true`?
    "#]],
    );
    check(
        "routes: [{name: a, userGroups: admins}]\n",
        expect![[r#"
        error: wrong type for `routes[0].userGroups`
         --> a.yaml:1:32
          |
        1 | routes: [{name: a, userGroups: admins}]
          |                                ^^^^^^ expected a list, found "admins"
        help: put a single entry into brackets: `[…]`
    "#]],
    );
    check(
        "limits: {memory: -1}\n",
        expect![[r#"
        error: wrong value for `limits.memory`
         --> a.yaml:1:18
          |
        1 | limits: {memory: -1}
          |                  ^^ expected a whole number, not negative, found the number -1
    "#]],
    );
    check(
        "limits: {memory: \"12\"}\n",
        expect![[r#"
        error: wrong type for `limits.memory`
         --> a.yaml:1:18
          |
        1 | limits: {memory: "12"}
          |                  ^^^^ expected a whole number, not negative, found "12"
    "#]],
    );
    check(
        "- a\n",
        expect![[r#"
            error: the configuration must be a map of words
             --> a.yaml:1:1
              |
            1 | - <hidden>
              | ^ expected `key: value`
        "#]],
    );
    check(
        "just text\n",
        expect![[r#"
            error: the configuration must be a map of words
             --> a.yaml:1:1
              |
            1 | <hidden>
              | ^^^^^^^^ expected `key: value`
        "#]],
    );
}

#[test]
fn unknown_words_name_the_nearest() {
    check(
        "outputs:\n  s: {endpoint: x, compression: gzp}\n",
        expect![[r#"
        error: unknown value `gzp` for `outputs.s.compression`
         --> a.yaml:2:33
          |
        2 |   s: {endpoint: x, compression: gzp}
          |                                 ^^^ expected one of `gzip`, `zstd`
        help: did you mean `gzip`?
    "#]],
    );
    check(
        "outputs:\n  s: {endpoint: x, compression: lz4}\n",
        expect![[r#"
        error: unknown value `lz4` for `outputs.s.compression`
         --> a.yaml:2:33
          |
        2 |   s: {endpoint: x, compression: lz4}
          |                                 ^^^ expected one of `gzip`, `zstd`
    "#]],
    );
}

#[test]
fn missing_keys_point_at_the_map() {
    check(
        "outputs:\n  search:\n    compression: gzip\n",
        expect![[r#"
        error: missing key `endpoint` in `outputs.search`
         --> a.yaml:2:3
          |
        2 |   search:
          |   ^^^^^^ `endpoint` is needed here
    "#]],
    );
    check(
        "outputs: {search: {}}\n",
        expect![[r#"
        error: missing key `endpoint` in `outputs.search`
         --> a.yaml:1:11
          |
        1 | outputs: {search: {}}
          |           ^^^^^^ `endpoint` is needed here
    "#]],
    );
    check(
        "routes:\n  - name: a\n  - userGroups: [x]\n",
        expect![[r#"
        error: missing key `name` in `routes[1]`
         --> a.yaml:3:5
          |
        3 |   - userGroups: [x]
          |     ^^^^^^^^^^ `name` is needed here
    "#]],
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for (text, expect) in [
        (
            "<missing>",
            expect![[r#"
            error: cannot read the configuration `a.yaml`: it does not exist
            help: give the path of a file with `--config`
        "#]],
        ),
        (
            "<directory>",
            expect![[r#"
            error: cannot read the configuration `a.yaml`: it is a directory, not a file
            help: name the files in it one by one, each with `--config`
        "#]],
        ),
        (
            "<latin1>",
            expect![[r#"
            error: cannot read the configuration `a.yaml`: it is not UTF-8 text
        "#]],
        ),
        (
            "",
            expect![[r#"
            error: `a.yaml` holds no configuration
            help: write `{}` if it is meant to be empty
        "#]],
        ),
        (
            "# cluster: x\n",
            expect![[r#"
            error: `a.yaml` holds no configuration
            help: write `{}` if it is meant to be empty
        "#]],
        ),
    ] {
        check(text, expect);
    }
}

#[test]
fn yaml_that_is_refused_is_shown() {
    check(
        "outputs:\n\ts: {}\n",
        expect![[r#"
        error: a tab cannot indent YAML
         --> a.yaml:2:1
          |
        2 |  s: <hidden>
          | ^ a tab
        help: indent with spaces
    "#]],
    );
    check(
        "cluster: &c x\n",
        expect![[r#"
        error: YAML anchors are not accepted
         --> a.yaml:1:10
          |
        1 | cluster: &c x
          |          ^^ an anchor
        help: write the value out in each place, so that every line says what it does
    "#]],
    );
    check(
        "cluster: *c\n",
        expect![[r#"
        error: YAML aliases are not accepted
         --> a.yaml:1:10
          |
        1 | cluster: *c
          |          ^^ an alias
        help: write the value out here; put text that begins with `*` in quotes
    "#]],
    );
    check(
        "cluster: a\nlimits: {memory: 1}\ncluster: b\n",
        expect![[r#"
            error: a key is written twice
             --> a.yaml:3:1
              |
            3 | cluster: b
              | ^^^^^^^ written again
             ::: a.yaml:1:1
              |
            1 | cluster: a
              | ^^^^^^^ first written here
            help: keep one of the two
        "#]],
    );
    check(
        "cluster: a: b\n",
        expect![[r#"
        error: not valid YAML
         --> a.yaml:1:11
          |
        1 | cluster: a: b
          |           ^ mapping values are not allowed in this context
    "#]],
    );
}

#[test]
fn references_that_lead_nowhere_are_shown() {
    check(
        "cluster: ${env:MISSING}\n",
        expect![[r#"
        error: environment variable `MISSING` is not set
         --> a.yaml:1:10
          |
        1 | cluster: ${env:MISSING}
          |          ^^^^^^^^^^^^^^
    "#]],
    );
    check(
        "cluster: ${file:/none}\nlimits: {memory: \"${env:X}\"}\n",
        expect![[r#"
        error: cannot read `/none`: it does not exist
         --> a.yaml:1:10
          |
        1 | cluster: ${file:/none}
          |          ^^^^^^^^^^^^^

        error: `${…}` is not resolved in `limits.memory`
         --> a.yaml:2:18
          |
        2 | limits: {memory: "${env:X}"}
          |                  ^^^^^^^^^^
        help: it works in `cluster`, `node`, authentication, credentials, header values, `bucket` and `region`; use an AUDITSHIP__… variable or `--set` here, and write `$${` for the characters themselves
    "#]],
    );
    check(
        "outputs: {s: {endpoint: \"${env:HOST}\"}}\n",
        expect![[r#"
        error: `${…}` is not resolved in `outputs.s.endpoint`
         --> a.yaml:1:25
          |
        1 | outputs: {s: {endpoint: "${env:HOST}"}}
          |                         ^^^^^^^^^^^^^
        help: it works in `cluster`, `node`, authentication, credentials, header values, `bucket` and `region`; use an AUDITSHIP__… variable or `--set` here, and write `$${` for the characters themselves
    "#]],
    );
    check_set(
        &["outputs.s.auth.api_key=${env:MISSING}"],
        expect![[r#"
        error: environment variable `MISSING` is not set
         --> --set outputs.s.auth.api_key
    "#]],
    );
}

#[test]
fn others_report_by_path() {
    let text = "outputs:\n  s:\n    endpoint: e\n    auth: {api_key: hunter2}\nroutes:\n  - name: a\n";
    let (_, located) = loaded(&Given { files: &[("a.yaml", text)], ..Given::default() }).unwrap();
    let mut shown = String::new();
    for (path, message, help) in [
        ("routes[0].name", "no such route", Some("did you mean `b`?")),
        ("routes[0]", "matches nothing", None),
        ("outputs.s", "has no route", None),
        ("routes[0].keep", "is too small", None),
        ("admin.listen", "cannot be used", None),
        ("outputs.s.auth.api_key", "the key hunter2 is not base64", None),
    ] {
        shown.push_str(&format!("{}\n\n", located.error_at(path, message, help)));
    }
    shown.push_str(&format!("{}\n", located.warning_at("outputs.s", "has no route", None)));
    expect![[r#"
        error: no such route
         --> a.yaml:6:11
          |
        6 |   - name: a
          |           ^
        help: did you mean `b`?

        error: matches nothing
         --> a.yaml:6:5
          |
        6 |   - name: a
          |     ^^^^

        error: has no route
         --> a.yaml:2:3
          |
        2 |   s:
          |   ^

        error: is too small
         --> a.yaml:6:5
          |
        6 |   - name: a
          |     ^^^^ `routes[0].keep` is not written here

        error: cannot be used
          = `admin.listen` is not written anywhere

        error: the key <hidden> is not base64
         --> a.yaml:4:21
          |
        4 |     auth: {api_key: <hidden>}
          |                     ^^^^^^^^

        warning: has no route
         --> a.yaml:2:3
          |
        2 |   s:
          |   ^
    "#]]
    .assert_eq(&shown);
}
