//! The messages of the real model: kinds, units, and the words of rules and routes.

use expect_test::expect;

use super::check_real as check;

#[test]
fn types_are_known_and_written() {
    check(
        "outputs:\n  search:\n    type: elasticsarch\n    endpoint: https://x\n",
        expect![[r#"
            error: unknown value `elasticsarch` for `outputs.search.type`
             --> a.yaml:3:11
              |
            3 |     type: elasticsarch
              |           ^^^^^^^^^^^^
              = expected one of `elasticsearch`, `http`, `loki`, `otlp`, `s3`, `dir`, `stdout`, `datadog`, `splunk_hec`
            help: did you mean `elasticsearch`?
        "#]],
    );
    check(
        "outputs:\n  search:\n    endpoint: https://x\n",
        expect![[r#"
        error: missing key `type` in `outputs.search`
         --> a.yaml:2:3
          |
        2 |   search:
          |   ^^^^^^ `type` is needed here
    "#]],
    );
    check(
        "inputs: {a: {type: fil, path: /a}}\n",
        expect![[r#"
        error: unknown value `fil` for `inputs.a.type`
         --> a.yaml:1:20
          |
        1 | inputs: {a: {type: fil, path: /a}}
          |                    ^^^ expected one of `file`, `stdin`
        help: did you mean `file`?
    "#]],
    );
    check(
        "inputs: {a: {path: /a}}\n",
        expect![[r#"
        error: missing key `type` in `inputs.a`
         --> a.yaml:1:10
          |
        1 | inputs: {a: {path: /a}}
          |          ^ `type` is needed here
    "#]],
    );
    check(
        "outputs: {a: {type: 7}}\n",
        expect![[r#"
            error: unknown value `7` for `outputs.a.type`
             --> a.yaml:1:21
              |
            1 | outputs: {a: {type: 7}}
              |                     ^
              = expected one of `elasticsearch`, `http`, `loki`, `otlp`, `s3`, `dir`, `stdout`, `datadog`, `splunk_hec`
        "#]],
    );
    check(
        "outputs: {a: {}}\n",
        expect![[r#"
        error: missing key `type` in `outputs.a`
         --> a.yaml:1:11
          |
        1 | outputs: {a: {}}
          |           ^ `type` is needed here
    "#]],
    );
}

#[test]
fn each_type_has_its_own_keys() {
    check(
        "inputs: {a: {type: stdin, path: /a}}\n",
        expect![[r#"
        error: unknown key `path` in `inputs.a`
         --> a.yaml:1:27
          |
        1 | inputs: {a: {type: stdin, path: /a}}
          |                           ^^^^ expected one of `type`, `format`, `max_line`
    "#]],
    );
    check(
        "outputs: {a: {type: dir, endpoint: /a}}\n",
        expect![[r#"
        error: unknown key `endpoint` in `outputs.a`
         --> a.yaml:1:26
          |
        1 | outputs: {a: {type: dir, endpoint: <hidden>}}
          |                          ^^^^^^^^ expected one of `type`, `filter`, `path`, `compression`, `batch`, `rate_limit`
    "#]],
    );
    check(
        "outputs: {a: {type: dir, path: /a, filtr: none}}\n",
        expect![[r#"
        error: unknown key `filtr` in `outputs.a`
         --> a.yaml:1:36
          |
        1 | outputs: {a: {type: dir, path: /a, filtr: <hidden>}}
          |                                    ^^^^^ expected one of `type`, `filter`, `path`, `compression`, `batch`, `rate_limit`
        help: did you mean `filter`?
    "#]],
    );
    check(
        "outputs: {a: {type: dir, path: /a, filter: all}}\n",
        expect![[r#"
        error: unknown value `all` for `outputs.a.filter`
         --> a.yaml:1:44
          |
        1 | outputs: {a: {type: dir, path: /a, filter: all}}
          |                                            ^^^ expected one of `none`, `default`
    "#]],
    );
    check(
        "outputs: {a: {type: http}}\n",
        expect![[r#"
        error: missing key `url` in `outputs.a`
         --> a.yaml:1:11
          |
        1 | outputs: {a: {type: http}}
          |           ^ `url` is needed here
    "#]],
    );
    check(
        "outputs: {a: {type: http, url: x, auth: {bearer: hunter2, basic: {user: a, password: b}}}}\n",
        expect![[r#"
            error: wrong type for `outputs.a.auth`
             --> a.yaml:1:35
              |
            1 | outputs: {a: {type: http, url: x, auth: {bearer: <hidden>, basic: {user: <hidden>, password: <hidden>}}}}
              |                                   ^^^^ expected exactly one of `basic`, `bearer`, found a map
        "#]],
    );
}

#[test]
fn values_with_a_unit() {
    check(
        "limits: {memory: 48 MiB}\n",
        expect![[r#"
        error: wrong value for `limits.memory`
         --> a.yaml:1:18
          |
        1 | limits: {memory: 48 MiB}
          |                  ^^^^^^ expected a size such as 2MiB, 500KB or 4096, found "48 MiB"
    "#]],
    );
    check(
        "limits: {memory: 1MiB}\n",
        expect![[r#"
            error: `limits.memory` must be at least 16MiB
             --> a.yaml:1:18
              |
            1 | limits: {memory: 1MiB}
              |                  ^^^^
        "#]],
    );
    check(
        "shutdown_deadline: 20\n",
        expect![[r#"
        error: wrong value for `shutdown_deadline`
         --> a.yaml:1:20
          |
        1 | shutdown_deadline: 20
          |                    ^^ expected a duration such as 250ms, 5s or 1m30s, found the number 20
    "#]],
    );
    check(
        "shutdown_deadline: 20sec\n",
        expect![[r#"
        error: wrong value for `shutdown_deadline`
         --> a.yaml:1:20
          |
        1 | shutdown_deadline: 20sec
          |                    ^^^^^ expected a duration such as 250ms, 5s or 1m30s, found "20sec"
    "#]],
    );
    check(
        "inputs: {a: {type: file, path: /a, max_line: 1KiB}}\n",
        expect![[r#"
            error: `max_line` must be between 4KiB and 64MiB
             --> a.yaml:1:46
              |
            1 | inputs: {a: {type: file, path: /a, max_line: 1KiB}}
              |                                              ^^^^
        "#]],
    );
    check(
        "inputs: {a: {type: file, path: /a, start_at: {since: yesterday}}}\n",
        expect![[r#"
        error: wrong value for `inputs.a.start_at.since`
         --> a.yaml:1:54
          |
        1 | inputs: {a: {type: file, path: /a, start_at: {since: yesterday}}}
          |                                                      ^^^^^^^^^ expected a duration such as 250ms, 5s or 1m30s, found "yesterday"
    "#]],
    );
    check(
        "inputs: {a: {type: file, path: /a, start_at: begin}}\n",
        expect![[r#"
            error: unknown value `begin` for `inputs.a.start_at`
             --> a.yaml:1:46
              |
            1 | inputs: {a: {type: file, path: /a, start_at: begin}}
              |                                              ^^^^^ expected one of `beginning`, `end`, `since`
            help: did you mean `beginning`?
        "#]],
    );
    check(
        "inputs: {a: {type: file, path: /a, start_at: {sinc: 1h}}}\n",
        expect![[r#"
        error: unknown key `sinc` in `inputs.a.start_at`
         --> a.yaml:1:47
          |
        1 | inputs: {a: {type: file, path: /a, start_at: {sinc: 1h}}}
          |                                               ^^^^ expected one of `beginning`, `end`, `since`
        help: did you mean `since`?
    "#]],
    );
    check(
        "admin: {listen: 9600}\n",
        expect![[r#"
            error: wrong value for `admin.listen`
             --> a.yaml:1:17
              |
            1 | admin: {listen: 9600}
              |                 ^^^^ expected an address and port such as 127.0.0.1:9600, or `null`, found "9600"
        "#]],
    );
    check(
        "admin:\n",
        expect![[r#"
        error: wrong type for `admin`
         --> a.yaml:1:6
          |
        1 | admin:
          |      ^ expected a map, found nothing
        help: remove the key, or write `{}` for an empty map
    "#]],
    );
}

#[test]
fn words_of_rules_are_checked_in_place() {
    check(
        "routes:\n  - {name: a, index: i, outputs: [], match: {user_groups: [x]}}\n",
        expect![[r#"
        error: unknown key `user_groups` in `routes[0].match`
         --> a.yaml:2:46
          |
        2 |   - {name: a, index: i, outputs: [], match: {user_groups: [x]}}
          |                                              ^^^^^^^^^^^
          = expected one of `users`, `userGroups`, `userPrefixes`, `verbs`, `namespaces`, `namespacePrefixes`, `resources`, `nonResourceURLs`, `levels`, `stages`, `codes`, `decisions`, `sourceIPs`, `userAgents`, `annotations`, `latency`, `impersonated`, `not`
        help: did you mean `userGroups`?
    "#]],
    );
    check(
        "routes:\n  - {name: a, index: i, outputs: [], match: {stages: [Responded]}}\n",
        expect![[r#"
        error: unknown value `Responded` for `routes[0].match.stages[0]`
         --> a.yaml:2:55
          |
        2 |   - {name: a, index: i, outputs: [], match: {stages: [Responded]}}
          |                                                       ^^^^^^^^^
          = expected one of `RequestReceived`, `ResponseStarted`, `ResponseComplete`, `Panic`
    "#]],
    );
    check(
        "routes:\n  - {name: a, index: i, outputs: [], match: {codes: [[401]]}}\n",
        expect![[r#"
        error: wrong type for `routes[0].match.codes[0]`
         --> a.yaml:2:54
          |
        2 |   - {name: a, index: i, outputs: [], match: {codes: [[401]]}}
          |                                                      ^ expected a status code, such as 401, 4xx or 500-599, found a list
    "#]],
    );
    check(
        "filter: {rules: [{name: a, match: {}, do: dorp}]}\n",
        expect![[r#"
        error: unknown value `dorp` for `filter.rules[0].do`
         --> a.yaml:1:43
          |
        1 | filter: {rules: [{name: a, match: {}, do: dorp}]}
          |                                           ^^^^ expected one of `drop`, `keep`
        help: did you mean `drop`?
    "#]],
    );
    check(
        "redact: {rules: [{name: a, action: token}]}\n",
        expect![[r#"
        error: missing key `paths` in `redact.rules[0]`
         --> a.yaml:1:18
          |
        1 | redact: {rules: [{name: a, action: token}]}
          |                  ^ `paths` is needed here
    "#]],
    );
}
