//! A configuration that is wrong: exit code 64, and a message that names the place.

use crate::support::{Place, auditship, run};

struct Case {
    what: &'static str,
    text: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    told: &'static [&'static str],
}

const GOOD: &str = "\
inputs:
  api: {type: file, path: none.log}
outputs:
  search:
    type: elasticsearch
    endpoint: http://127.0.0.1:1
";

const CASE: Case = Case { what: "", text: GOOD, args: &[], env: &[], told: &[] };

const CASES: &[Case] = &[
    Case {
        what: "unknown key",
        text: "inputs:\n  api: {type: file, path: x}\noutputs:\n  search:\n    type: elasticsearch\n    endpont: http://x\n",
        told: &["unknown key `endpont` in `outputs.search`", "c.yaml:6:5", "did you mean `endpoint`?"],
        ..CASE
    },
    Case {
        what: "wrong type",
        text: "limits:\n  memory: [1]\n",
        told: &["wrong type for `limits.memory`", "c.yaml:2:3", "expected a size such as 2MiB"],
        ..CASE
    },
    Case {
        what: "wrong value",
        text: "limits:\n  memory: lots\n",
        told: &["wrong value for `limits.memory`", "c.yaml:2:11"],
        ..CASE
    },
    Case {
        what: "unknown kind of output",
        text: "outputs:\n  search: {type: kafka}\n",
        told: &["unknown value `kafka`", "c.yaml:2:18", "`elasticsearch`"],
        ..CASE
    },
    Case {
        what: "a route to an output that is not there",
        text: "inputs:\n  api: {type: file, path: x}\nroutes:\n  - {name: a, index: b, outputs: [serch]}\noutputs:\n  search: {type: stdout}\n",
        told: &["serch", "c.yaml:4:"],
        ..CASE
    },
    Case {
        what: "a fallback to an output that is not there",
        text: "inputs:\n  api: {type: file, path: x}\noutputs:\n  search: {type: stdout, fallback: {output: serch}}\n",
        told: &["there is no output \"serch\"", "c.yaml:4:", "the outputs are search"],
        ..CASE
    },
    Case {
        what: "a fallback to itself",
        text: "inputs:\n  api: {type: file, path: x}\noutputs:\n  search: {type: stdout, fallback: {output: search}}\n",
        told: &["an output cannot fall back to itself", "c.yaml:4:"],
        ..CASE
    },
    Case { what: "not YAML", text: "a: {b: {c\n", told: &["not valid YAML", "c.yaml:1:"], ..CASE },
    Case { what: "an alias", text: "cluster: &c prod\nnode: *c\n", told: &["c.yaml:", "error"], ..CASE },
    Case { what: "empty", text: "", told: &["`c.yaml` holds no configuration"], ..CASE },
    Case {
        what: "a variable that is not set",
        text: "cluster: ${env:AUDITSHIP_TEST_IS_NOT_SET}\n",
        told: &["`AUDITSHIP_TEST_IS_NOT_SET` is not set", "c.yaml:1:10"],
        ..CASE
    },
    Case {
        what: "--set without a value",
        args: &["--set", "nonsense"],
        told: &["`--set` without a value", "--> --set nonsense"],
        ..CASE
    },
    Case {
        what: "--set of an unknown key",
        args: &["--set", "cluste=x"],
        told: &["unknown key `cluste`", "--> --set cluste", "did you mean `cluster`?"],
        ..CASE
    },
    Case {
        what: "--set of a wrong value",
        args: &["--set", "limits.memory=lots"],
        told: &["wrong value for `limits.memory`", "--> --set limits.memory"],
        ..CASE
    },
    Case {
        what: "environment variable of an unknown key",
        env: &[("AUDITSHIP__CLUSTE", "x")],
        told: &["unknown key `cluste`", "environment variable AUDITSHIP__CLUSTE"],
        ..CASE
    },
    Case {
        what: "environment variable of a wrong value",
        env: &[("AUDITSHIP__LIMITS__MEMORY", "lots")],
        told: &["wrong value for `limits.memory`", "environment variable AUDITSHIP__LIMITS__MEMORY"],
        ..CASE
    },
];

#[test]
fn mistakes_are_shown_at_their_place() {
    let place = Place::new();
    for case in CASES {
        place.write("c.yaml", case.text);
        for command in [&["check"][..], &["ship", "-"], &["run"]] {
            let mut program = auditship();
            program.current_dir(place.path("")).args(&command[..1]).args(["--config", "c.yaml"]);
            program.args(case.args).args(&command[1..]).envs(case.env.iter().copied());
            let ran = run(&mut program, b"");
            assert_eq!(ran.code, 64, "{} ({command:?}): {ran:?}", case.what);
            for told in case.told {
                assert!(ran.err.contains(told), "{} ({command:?}): no {told:?} in\n{}", case.what, ran.err);
            }
            assert_eq!(ran.out, "", "{}", case.what);
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    place.write("latin1.yaml", b"cluster: caf\xe9\n");
    for (file, told) in [
        ("none.yaml", "`none.yaml`: it does not exist"),
        ("log", "it is a directory"),
        ("latin1.yaml", "it is not UTF-8 text"),
    ] {
        std::fs::create_dir_all(place.path("log")).unwrap();
        for command in ["check", "run"] {
            let ran = run(auditship().current_dir(place.path("")).args([command, "--config", file]), b"");
            assert_eq!(ran.code, 64, "{ran:?}");
            assert!(ran.err.contains(told), "{ran:?}");
        }
    }
}

#[test]
fn a_secret_is_never_quoted() {
    let place = Place::new();
    let text = "outputs:\n  s:\n    type: elasticsearch\n    endpoint: http://x\n    auth: {api_kye: hunter2-hunter2}\n";
    place.write("c.yaml", text);
    let ran = run(auditship().current_dir(place.path("")).args(["check", "--config", "c.yaml"]), b"");
    assert_eq!(ran.code, 64);
    assert!(ran.err.contains("c.yaml:5:") && !ran.err.contains("hunter2"), "{ran:?}");
    let set = "outputs.s.auth.api_kye=hunter2-hunter2";
    let ran =
        run(auditship().current_dir(place.path("")).args(["check", "--config", "c.yaml", "--set", set]), b"");
    assert!(ran.code == 64 && !ran.err.contains("hunter2"), "{ran:?}");
}

#[test]
fn bad_usage_is_64_and_help_is_0() {
    for (args, code) in [
        (&["ship"][..], 64),
        (&["nonsense"], 64),
        (&["run", "--config"], 64),
        (&[], 64),
        (&["--help"], 0),
        (&["ship", "--help"], 0),
        (&["--version"], 0),
    ] {
        assert_eq!(run(auditship().args(args), b"").code, code, "{args:?}");
    }
}

#[test]
fn a_good_one_is_told_so() {
    let place = Place::new();
    // A last word on what detectors alone would look at.
    let rules = "redact: {rules: [{name: own, paths: [requestObject.**.data, responseObject.**.data, \
                 requestObject.**.spec, responseObject.**.spec, requestURI]}]}";
    place.configure(
        "search: {type: elasticsearch, endpoint: URL}\narchive: {type: dir, path: DIR/archive}",
        rules,
    );
    let ran = run(auditship().current_dir(place.path("")).args(["check", "--config", "config.yaml"]), b"");
    assert_eq!((ran.code, ran.out.as_str()), (0, "ok: 1 input, 2 outputs, 1 route\n"), "{ran:?}");
    assert!(!place.path("state").exists() && !place.path("archive").exists(), "`check` only looks");
}

#[test]
fn what_only_detectors_look_at_is_told_once_a_class() {
    let place = Place::new();
    place.configure("search: {type: elasticsearch, endpoint: URL}", "");
    let check = |args: &[&str]| {
        let mut command = auditship();
        run(command.current_dir(place.path("")).args(["check", "--config", "config.yaml"]).args(args), b"")
    };
    let ran = check(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "ok: 1 input, 1 output, 1 route, 3 warnings\n"), "{ran:?}");
    for told in [
        "route `all` ships ConfigMaps with their data",
        "route `all` ships custom resources with their specs",
        "route `all` ships the command lines of `kubectl exec`",
        "config.yaml:6:",
        "    - name: configmaps\n      match: {resources: [{group: \"\", resources: [configmaps]}]}\n      paths: [",
    ] {
        assert_eq!(
            ran.err.matches(told).count(),
            if told.starts_with("config") { 3 } else { 1 },
            "{told}: {}",
            ran.err
        );
    }
    // What the help says can be taken as it is.
    let help = ran.err.split("add to `redact.rules`:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let text = std::fs::read_to_string(place.path("config.yaml")).unwrap();
    place.write("config.yaml", format!("{text}redact:\n  rules:\n{help}\n"));
    let ran = check(&[]);
    assert!(ran.out.contains("2 warnings") && !ran.err.contains("ConfigMaps"), "{ran:?}");
}
