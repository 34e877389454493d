//! The network as users have it: `check --connect`, proxies from the environment, and secrets that change in their
//! files while the agent runs.

use crate::support::{Agent, Log, Place, Ran, assert_exactly, auditship, events, run};
use serde_json::Value;
use std::path::Path;

fn check(place: &Place, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = auditship();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(env.iter().copied());
    let args = [&["check", "--config", "config.yaml", "--connect"], args].concat();
    run(command.current_dir(place.path("")).args(args), b"")
}

/// The lines about outputs.
fn lines(ran: &Ran) -> Vec<&str> {
    ran.out.lines().skip(1).collect()
}

#[test]
fn what_works_is_told_and_nothing_is_sent() {
    let place = Place::new();
    place.configure(
        "search: {type: elasticsearch, endpoint: URL}\nout: {type: stdout}\narchive: {type: dir, path: DIR/archive}",
        "",
    );
    let ran = check(&place, &[], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = lines(&ran);
    assert!(told[0].contains(": archive: storage: ") && told[0].contains(" (it will be made) "), "{told:?}");
    assert_eq!(told[1], "ok: out: storage: standard output: nothing to try");
    // The receiver answers 404 for what it does not know.
    assert_eq!(
        told[2],
        "warning: search: request: the index `audit` does not exist: the first event makes it, where the cluster \
         lets it be made"
    );
    assert!(!place.path("archive").exists());
    assert_eq!(place.receiver.counts().stored, 0);

    let ran = check(&place, &["--json"], &[]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["ok"], true);
    let search = report["connect"].as_array().unwrap().iter().find(|it| it["output"] == "search").unwrap();
    assert_eq!(search["result"], "warning");
    let steps: Vec<String> = search["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| format!("{} {}", step["step"], step["text"]))
        .collect();
    assert_eq!(steps[1], r#""request" "elasticsearch 8.17.0""#, "{steps:?}");
}

#[test]
fn what_does_not_work_is_exit_code_1() {
    let place = Place::new();
    place.configure(
        "search: {type: elasticsearch, endpoint: URL/wrong, auth: {api_key: hunter2}}\n\
         gone: {type: http, url: \"http://127.0.0.1:1/in\"}",
        "",
    );
    let ran = check(&place, &[], &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let told = lines(&ran);
    assert!(told[0].starts_with("failed: gone: connect: 127.0.0.1:1 refuses the connection; "), "{told:?}");
    assert!(told[1].starts_with("failed: search: request: http 404: there is nothing of that name; "));
    assert!(ran.err.ends_with("error: 2 outputs do not work: gone, search\n"), "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"));

    let ran = check(&place, &["--json"], &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["ok"], false);
    // A mistake in the configuration comes first, and nobody is asked.
    let ran = check(&place, &["--set", "outputs.gone.url=ftp://x"], &[]);
    assert_eq!(ran.code, 64, "{ran:?}");
}

#[test]
fn proxies_come_from_the_environment() {
    let place = Place::new();
    place.configure("collect: {type: http, url: \"http://logs.invalid/ingest\"}", "");
    // The receiver plays the proxy: it is asked by a whole URL.
    let proxy = place.receiver.url();
    let address = proxy.strip_prefix("http://").unwrap();
    let ran = check(&place, &["--json"], &[("HTTP_PROXY", &proxy)]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains(&format!("by way of {address}")), "{ran:?}");
    for env in [&[][..], &[("HTTP_PROXY", &*proxy), ("NO_PROXY", "invalid")], &[("HTTPS_PROXY", &*proxy)]] {
        let ran = check(&place, &[], env);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            lines(&ran)[0].starts_with("failed: collect: resolve: the name `logs.invalid` cannot"),
            "{ran:?}"
        );
    }
    // And `ship` takes the same way.
    let file = place.write("in", events(0..20));
    let mut command = auditship();
    command
        .current_dir(place.path(""))
        .env("HTTP_PROXY", &proxy)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let ran = run(command.args(["ship", "--config", "config.yaml"]).arg(file), b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let heads = place.receiver.heads().concat();
    assert!(heads.contains("http://logs.invalid/ingest"), "{heads}");
}

/// Lays files as the kubelet does for a mounted Secret: `token` is a link into `..data`, a link that is swapped.
fn lay(dir: &Path, version: &str, token: &str) {
    std::fs::create_dir_all(dir.join(version)).unwrap();
    std::fs::write(dir.join(version).join("token"), token).unwrap();
    std::os::unix::fs::symlink(version, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn a_token_that_changes_in_its_file_is_used_without_a_signal() {
    let place = Place::new();
    let secret = place.path("secret");
    lay(&secret, "..1", "first-token\n");
    std::os::unix::fs::symlink("..data/token", secret.join("token")).unwrap();
    place.configure(
        "search: {type: elasticsearch, endpoint: URL, filter: none, batch: {age: 100ms}, \
         auth: {bearer: \"${file:DIR/secret/token}\"}}",
        "admin: {listen: \"127.0.0.1:0\"}",
    );
    let mut log = Log::create(&place);
    let agent = Agent::start(&place);
    let sent = |token: &str| place.receiver.heads().iter().filter(|head| head.contains(token)).count();
    log.append(100);
    agent.until("the first", || place.documents().len() == 100);
    assert!(sent("first-token") > 0);

    // An empty one changes nothing, and is told.
    lay(&secret, "..2", "");
    agent.wait_log("the configuration is not reloaded, the old one stays");
    agent.until("it is told", || {
        agent.get("/readyz").1.contains("secret/token has changed and cannot be used")
    });
    log.append(100);
    agent.until("the old one is used", || place.documents().len() == 200);

    lay(&secret, "..3", "second-token\n");
    agent.wait_log("configuration reloaded");
    assert!(agent.log().contains("file=") && agent.log().contains("secret/token"), "{}", agent.log());
    log.append(100);
    agent.until("the new one is used", || place.documents().len() == 300);
    assert!(sent("second-token") > 0);
    let metrics = agent.get("/metrics").1;
    for line in [
        "auditship_reloads_total{why=\"file\",result=\"done\"} 1",
        "auditship_reloads_total{why=\"file\",result=\"refused\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains("auditship_degraded{what=\"configuration\"}"), "{metrics}");
    for token in ["first-token", "second-token"] {
        assert!(!agent.log().contains(token), "{}", agent.log());
    }
    agent.status().assert_law();
    assert_eq!(agent.stop(), 0);
    assert_exactly("search", &place.documents(), log.written);
}
