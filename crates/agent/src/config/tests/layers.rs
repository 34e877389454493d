//! Files, variables and arguments: which of them wins, and which of them is at fault.

use expect_test::expect;

use super::{Compression, Given, check_env, check_set, loaded};

#[test]
fn arguments_at_fault_are_named() {
    check_set(
        &["cluster"],
        expect![[r#"
        error: `--set` without a value
         --> --set cluster
          = expected `path=value`
        help: for example `--set admin.listen=127.0.0.1:9600`
    "#]],
    );
    check_set(
        &["=x"],
        expect![[r#"
        error: `--set` with what is not a path: a word is missing
         --> --set
          = expected words separated by dots, and `[n]` for an item
        help: for example `--set admin.listen=127.0.0.1:9600`
    "#]],
    );
    check_set(
        &["routes[x].name=a"],
        expect![[r#"
        error: `--set` with what is not a path: `x` is not a number of an item
         --> --set routes[x].name
          = expected words separated by dots, and `[n]` for an item
        help: for example `--set admin.listen=127.0.0.1:9600`
    "#]],
    );
    check_set(
        &["clutser=x"],
        expect![[r#"
        error: unknown key `clutser`
         --> --set clutser
          = expected one of `cluster`, `outputs`, `routes`, `limits`
        help: did you mean `cluster`?
    "#]],
    );
    check_set(
        &["outputs.s.endpont=x"],
        expect![[r#"
        error: unknown key `endpont` in `outputs.s`
         --> --set outputs.s.endpont
          = expected one of `type`, `endpoint`, `auth`, `headers`, `compression`
        help: did you mean `endpoint`?
    "#]],
    );
    check_set(
        &["routes[5].name=x"],
        expect![[r#"
        error: `routes` has no item 5
         --> --set routes[5].name
          = expected at most 1, which appends an item
    "#]],
    );
    check_set(
        &["routes.first=x"],
        expect![[r#"
        error: `routes` is a list and has no key `first`
         --> --set routes.first
          = expected the number of an item, from 0
    "#]],
    );
    check_set(
        &["limits.memory=much"],
        expect![[r#"
        error: wrong type for `limits.memory`
         --> --set limits.memory
          = expected a whole number, not negative, found "much"
    "#]],
    );
    check_set(
        &["limits={memory: 1, cpu: 2}"],
        expect![[r#"
        error: unknown key `cpu` in `limits`
         --> --set limits
          = expected `memory`
    "#]],
    );
    check_set(
        &["limits={memory: 1"],
        expect![[r#"
        error: not valid YAML: unclosed bracket '{'
         --> --set limits
          = a value that begins with `[` or `{` is read as YAML
    "#]],
    );
    check_set(
        &["cluster.name=x"],
        expect![[r#"
        error: wrong type for `cluster`
         --> --set cluster.name
          = expected text, found a map
    "#]],
    );
    check_set(
        &["outputs.s.auth.api_key:hunter2"],
        expect![[r#"
        error: `--set` without a value
         --> --set outputs.s.auth.api_key
          = expected `path=value`
        help: for example `--set admin.listen=127.0.0.1:9600`
    "#]],
    );
}

#[test]
fn variables_at_fault_are_named() {
    check_env(
        &[("AUDITSHIP__OUTPUT__S__ENDPOINT", "x")],
        expect![[r#"
        error: unknown key `output`
         --> environment variable AUDITSHIP__OUTPUT__S__ENDPOINT
          = expected one of `cluster`, `outputs`, `routes`, `limits`
        help: did you mean `outputs`?
    "#]],
    );
    check_env(
        &[("AUDITSHIP__OUTPUTS__T__COMPRESSION", "gzip")],
        expect![[r#"
        error: missing key `endpoint` in `outputs.t`
         --> environment variable AUDITSHIP__OUTPUTS__T__COMPRESSION
          = `endpoint` is needed here
    "#]],
    );
    check_env(
        &[("AUDITSHIP__LIMITS__MEMORY", "48MB")],
        expect![[r#"
        error: wrong type for `limits.memory`
         --> environment variable AUDITSHIP__LIMITS__MEMORY
          = expected a whole number, not negative, found "48MB"
    "#]],
    );
    check_env(
        &[("AUDITSHIP__LIMITS____MEMORY", "1")],
        expect![[r#"
        error: the name `AUDITSHIP__LIMITS____MEMORY` has an empty word
         --> environment variable AUDITSHIP__LIMITS____MEMORY
          = words are separated by two underscores
        help: for example AUDITSHIP__ADMIN__LISTEN sets `admin.listen`
    "#]],
    );
    check_env(
        &[("AUDITSHIP__", "1")],
        expect![[r#"
        error: the name `AUDITSHIP__` has an empty word
         --> environment variable AUDITSHIP__
          = words are separated by two underscores
        help: for example AUDITSHIP__ADMIN__LISTEN sets `admin.listen`
    "#]],
    );
    check_env(
        &[("AUDITSHIP__ROUTES__7__NAME", "x")],
        expect![[r#"
        error: `routes` has no item 7
         --> environment variable AUDITSHIP__ROUTES__7__NAME
          = expected at most 1, which appends an item
    "#]],
    );
}

#[test]
fn layers_lie_over_one_another() {
    let files = [
        (
            "a.yaml",
            "cluster: a\noutputs: {S-1: {endpoint: e, headers: {X.Y: v}}}\nroutes: [{name: a}, {name: b}]\n",
        ),
        ("b.yaml", "cluster: b\noutputs: {S-1: {compression: zstd}}\n"),
    ];
    let env = [("AUDITSHIP__CLUSTER", "c"), ("AUDITSHIP__ROUTES__0__NAME", "first"), ("AUDITSHIP_LOG", "x")];
    let set = [
        "routes[1].userGroups=[x, y]",
        "routes[1].continue=true",
        "routes[2].name=0123",
        "outputs.S-1.headers.\"A.B\"=w: #1",
        "limits.memory=7",
    ];
    let (model, located) = loaded(&Given { files: &files, env: &env, set: &set }).unwrap();
    assert_eq!(model.cluster.as_deref(), Some("c"));
    let output = &model.outputs["S-1"];
    assert_eq!((output.endpoint.as_str(), output.headers.len()), ("e", 2));
    assert!(matches!(output.compression, Some(Compression::Zstd)));
    assert_eq!((output.headers["X.Y"].as_str(), output.headers["A.B"].as_str()), ("v", "w: #1"));
    let names: Vec<&str> = model.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["first", "b", "0123"]);
    assert_eq!(model.routes[1].user_groups, ["x", "y"]);
    assert!(model.routes[1].r#continue && !model.routes[0].r#continue);
    assert_eq!(model.limits.unwrap().memory, 7);

    assert_eq!(located.place("outputs.S-1.endpoint").unwrap(), "a.yaml:2:27");
    assert_eq!(located.place("outputs.S-1.compression").unwrap(), "b.yaml:2:30");
    assert_eq!(located.place("cluster").unwrap(), "environment variable AUDITSHIP__CLUSTER");
    assert_eq!(located.place("routes[0].name").unwrap(), "environment variable AUDITSHIP__ROUTES__0__NAME");
    assert_eq!(located.place("routes[1].userGroups[0]").unwrap(), "--set routes[1].userGroups");
    assert_eq!(located.place("routes[1].name").unwrap(), "a.yaml:3:28");
}

#[test]
fn a_list_in_a_later_layer_replaces_the_earlier_one() {
    let files =
        [("a.yaml", "routes: [{name: a, bad: 1}, {name: b}]\n"), ("b.yaml", "routes:\n  - name: c\n")];
    let (model, located) = loaded(&Given { files: &files, ..Given::default() }).unwrap();
    assert_eq!(model.routes.len(), 1);
    assert_eq!(located.place("routes[0].name").unwrap(), "b.yaml:2:11");
    assert_eq!(located.place("routes[1].name").unwrap(), "b.yaml:1:1");
}
