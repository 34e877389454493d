//! No message shows the value of a secret, whatever is wrong around it.

use expect_test::expect;

use super::{Given, check_given, loaded};

#[test]
fn secrets_are_hidden() {
    let texts = [
        ("wrong type", "outputs:\n  s:\n    endpoint: e\n    auth: {retries: hunter2, api_key: hunter2}\n"),
        ("another key on the line", "outputs: {s: {endpoint: e, auth: {api_key: hunter2}, x: 1}}\n"),
        ("judgement that repeats it", "outputs: {s: {endpoint: e, auth: {api_key: hunter2é}}}\n"),
        ("unknown key", "outputs: {s: {endpoint: e, auth: {apikey: hunter2}}}\n"),
        ("unknown key above", "outputs: {s: {endpoint: e, auht: {api_key: hunter2}}}\n"),
        ("unknown key at the top", "output: {s: {auth: {api_key: hunter2}}}\n"),
        ("wrong type of the map", "outputs: {s: {endpoint: e, auth: hunter2}}\n"),
        ("header", "outputs: {s: {endpoint: [1], headers: {Authorization: Bearer hunter2}}}\n"),
        ("syntax", "outputs:\n  s:\n    auth:\n      api_key: \"hunter2\n      x: 1\n"),
        ("syntax in the value", "outputs:\n  s:\n    auth:\n      api_key: hunter2: x\n"),
        ("syntax in a flow map", "{\"outputs\": {\"s\": {\"auth\": {\"api_key\": \"hunter2\" x}}}}\n"),
        ("block", "outputs:\n  s:\n    auth:\n      api_key: |\n        hunter2\n\t hunter2\n"),
        ("user in a URL", "outputs: {s: {endpoint: \"https://u:hunter2@h\", compression: x}}\n"),
        ("list instead of a word", "outputs: {s: {endpoint: e, auth: {api_key: [hunter2]}}}\n"),
        ("twice", "outputs:\n  s:\n    auth: {api_key: hunter2, api_key: hunter2}\n"),
        ("alias", "outputs:\n  s:\n    auth: {api_key: hunter2, x: *hunter2}\n"),
        ("broken reference", "outputs:\n  s: {endpoint: e, auth: {api_key: \"${hunter2}\"}}\n"),
        ("open reference", "outputs:\n  s: {endpoint: e, auth: {api_key: \"hunter2${env:X\"}}\n"),
    ];
    let mut shown = String::new();
    for (name, text) in texts {
        let given = Given { files: &[("a.yaml", text)], ..Given::default() };
        let error = loaded(&given).map(|_| ()).unwrap_err();
        shown.push_str(&format!("# {name}\n{error}\n\n"));
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    expect![[r##"
        # wrong type
        error: wrong type for `outputs.s.auth.retries`
         --> a.yaml:4:21
          |
        4 |     auth: {retries: <hidden>, api_key: <hidden>}
          |                     ^^^^^^^^ expected a whole number, not negative, found <hidden>

        # another key on the line
        error: unknown key `x` in `outputs.s`
         --> a.yaml:1:54
          |
        1 | outputs: {s: {endpoint: e, auth: {api_key: <hidden>}, x: <hidden>}}
          |                                                       ^ expected one of `type`, `endpoint`, `auth`, `headers`, `compression`

        # judgement that repeats it
        error: wrong value for `outputs.s.auth.api_key`
         --> a.yaml:1:44
          |
        1 | outputs: {s: {endpoint: e, auth: {api_key: <hidden>}}}
          |                                            ^^^^^^^^ not accepted

        # unknown key
        error: unknown key `apikey` in `outputs.s.auth`
         --> a.yaml:1:35
          |
        1 | outputs: {s: {endpoint: e, auth: {apikey: <hidden>}}}
          |                                   ^^^^^^ expected one of `api_key`, `retries`
        help: did you mean `api_key`?

        # unknown key above
        error: unknown key `auht` in `outputs.s`
         --> a.yaml:1:28
          |
        1 | outputs: {s: {endpoint: e, auht: {api_key: <hidden>}}}
          |                            ^^^^ expected one of `type`, `endpoint`, `auth`, `headers`, `compression`
        help: did you mean `auth`?

        # unknown key at the top
        error: unknown key `output`
         --> a.yaml:1:1
          |
        1 | output: {s: {auth: {api_key: <hidden>}}}
          | ^^^^^^ expected one of `cluster`, `outputs`, `routes`, `limits`
        help: did you mean `outputs`?

        # wrong type of the map
        error: wrong type for `outputs.s.auth`
         --> a.yaml:1:34
          |
        1 | outputs: {s: {endpoint: e, auth: <hidden>}}
          |                                  ^^^^^^^^ expected a map, found <hidden>

        # header
        error: wrong type for `outputs.s.endpoint`
         --> a.yaml:1:15
          |
        1 | outputs: {s: {endpoint: [1], headers: {Authorization: <hidden>}}}
          |               ^^^^^^^^ expected text, found a list

        # syntax
        error: not valid YAML
         --> a.yaml:4:16
          |
        4 |       api_key: <hidden>
          |                ^^^^^^^^ unclosed quote

        # syntax in the value
        error: not valid YAML
         --> a.yaml:4:23
          |
        4 |       api_key: <hidden>
          |                ^^^^^^^^ mapping values are not allowed in this context

        # syntax in a flow map
        error: not valid YAML
         --> a.yaml:1:50
          |
        1 | {"outputs": <hidden>
          |             ^^^^^^^^ invalid trailing content after double-quoted scalar

        # block
        error: a tab cannot indent YAML
         --> a.yaml:6:1
          |
        6 |   <hidden>
          | ^ a tab
        help: indent with spaces

        # user in a URL
        error: unknown value `x` for `outputs.s.compression`
         --> a.yaml:1:61
          |
        1 | outputs: {s: {endpoint: <hidden>, compression: x}}
          |                                                ^ expected one of `gzip`, `zstd`

        # list instead of a word
        error: wrong type for `outputs.s.auth.api_key`
         --> a.yaml:1:35
          |
        1 | outputs: {s: {endpoint: e, auth: {api_key: [<hidden>]}}}
          |                                   ^^^^^^^ expected text, found a list

        # twice
        error: a key is written twice
         --> a.yaml:3:30
          |
        3 |     auth: <hidden>
          |           ^^^^^^^^ written again
         ::: a.yaml:3:12
          |
        3 |     auth: <hidden>
          |           ^^^^^^^^ first written here
        help: keep one of the two

        # alias
        error: YAML aliases are not accepted
         --> a.yaml:3:33
          |
        3 |     auth: <hidden>
          |           ^^^^^^^^ an alias
        help: write the value out here; put text that begins with `*` in quotes

        # broken reference
        error: `${…}` must begin with `env:` or `file:`
         --> a.yaml:2:36
          |
        2 |   s: {endpoint: e, auth: {api_key: <hidden>}}
          |                                    ^^^^^^^^

        # open reference
        error: `${` is not closed by `}`
         --> a.yaml:2:36
          |
        2 |   s: {endpoint: e, auth: {api_key: <hidden>}}
          |                                    ^^^^^^^^

    "##]].assert_eq(&shown);
}

#[test]
fn secrets_from_outside_are_hidden() {
    for given in [
        Given { set: &["outputs.s.auth.retries=hunter2"], ..Given::default() },
        Given { set: &["outputs.s.auth={retries: hunter2}"], ..Given::default() },
        Given { set: &["outputs.s.auth.api_key=hunter2", "outputs.s.x=hunter2"], ..Given::default() },
        Given { env: &[("AUDITSHIP__OUTPUTS__S__AUTH__RETRIES", "hunter2")], ..Given::default() },
        Given {
            env: &[("K", "hunter2é"), ("AUDITSHIP__OUTPUTS__S__AUTH__API_KEY", "${env:K}")],
            ..Given::default()
        },
    ] {
        let shown = loaded(&given).map(|_| ()).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_replaced_secret_stays_hidden() {
    let files = [
        ("a.yaml", "outputs: {s: {endpoint: [], auth: {api_key: hunter2}}}\n"),
        ("b.yaml", "outputs: {s: {auth: {api_key: \"${env:K}\"}}}\n"),
    ];
    check_given(
        &Given { files: &files, env: &[("K", "v")], ..Given::default() },
        expect![[r#"
        error: wrong type for `outputs.s.endpoint`
         --> a.yaml:1:15
          |
        1 | outputs: {s: {endpoint: [], auth: {api_key: <hidden>}}}
          |               ^^^^^^^^ expected text, found a list
    "#]],
    );
}

/// Whatever one keystroke makes of a file, its error shows no secret and nothing panics.
#[test]
fn one_keystroke_shows_no_secret() {
    let text = "cluster: c\noutputs:\n  s:\n    endpoint: https://u:hunter2@h\n    auth: {api_key: hunter2}\n  \
                t:\n    endpoint: é\n    headers:\n      X-Key: |\n        hunter2\n      Y: 'hunter2'\n    \
                auth:\n      api_key: \"hunter2\"\nroutes:\n  - name: a\n  - {name: b, userGroups: [x]}\n";
    let check = |text: &str| {
        let given = Given { files: &[("a.yaml", text)], ..Given::default() };
        if let Err(error) = loaded(&given) {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}\n{error}");
        }
    };
    for (at, c) in text.char_indices() {
        check(&text[..at]);
        check(&format!("{}{}", &text[..at], &text[at + c.len_utf8()..]));
        for key in [
            ":", ": ", "\"", "'", "[", "]", "{", "}", ",", "\t", "\n", "*", "&", "!", "#", "- ", "x", "$",
            "|", "\0",
        ] {
            check(&format!("{}{key}{}", &text[..at], &text[at..]));
        }
    }
}
