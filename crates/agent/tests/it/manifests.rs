//! `auditship manifests`, `completions` and `man`: what is printed, and what the tools say that read it.

use crate::support::{Ran, auditship, run};
use expect_test::expect_file;
use std::process::{Command, Stdio};

fn manifests(args: &[&str]) -> Ran {
    run(auditship().arg("manifests").args(args), b"")
}

#[test]
fn the_files_as_they_are_printed() {
    for (name, args) in [
        ("static-pod-kubeadm.yaml", &["static-pod"][..]),
        ("static-pod-rke2.yaml", &["static-pod", "--distribution", "rke2"]),
        ("static-pod-talos.yaml", &["static-pod", "--distribution", "talos"]),
        ("static-pod-openshift.yaml", &["static-pod", "--distribution", "openshift"]),
        ("sidecar-kubeadm.yaml", &["sidecar"]),
        (
            "sidecar-own.yaml",
            &[
                "sidecar",
                "--distribution",
                "other",
                "--audit-dir",
                "/srv/audit",
                "--config",
                "/srv/auditship/a.yaml",
                "--image",
                "registry.example/auditship@sha256:0",
            ],
        ),
        ("systemd-k3s.service", &["systemd", "--distribution", "k3s"]),
        ("systemd-owner.service", &["systemd", "--distribution", "other", "--owner", "1000"]),
    ] {
        let ran = manifests(args);
        assert_eq!((ran.code, &*ran.err), (0, ""), "{name}");
        // The tag is this version's, and no file of a test should change with it.
        let text = ran.out.replace(concat!("auditship:", env!("CARGO_PKG_VERSION")), "auditship:VERSION");
        expect_file![format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))].assert_eq(&text);
    }
}

#[test]
fn contradictions_are_usage() {
    let ran = manifests(&["sidecar", "--distribution", "k3s"]);
    assert_eq!((ran.code, &*ran.out), (64, ""));
    assert!(ran.err.contains("use `manifests static-pod`"), "{ran:?}");
    assert_eq!(manifests(&["daemonset"]).code, 64);
    assert_eq!(manifests(&[]).code, 64);
}

/// Whether there is such a program; says so where there is none.
fn has(program: &str, args: &[&str]) -> bool {
    let there = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success());
    if !there {
        println!("skipped: no {program} here");
    }
    there
}

#[test]
fn systemd_takes_the_unit_and_finds_it_tight() {
    if !has("systemd-analyze", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("auditship.service");
    for distribution in ["kubeadm", "k3s", "rke2", "other"] {
        let text = manifests(&[
            "systemd",
            "--distribution",
            distribution,
            "--binary",
            env!("CARGO_BIN_EXE_auditship"),
        ])
        .out;
        std::fs::write(&unit, text).unwrap();
        let analyze = |args: &[&str]| run(Command::new("systemd-analyze").args(args).arg(&unit), b"");
        let verified = analyze(&["verify", "--man=no"]);
        assert_eq!(verified.code, 0, "{verified:?}");
        let about_it = verified.err.lines().filter(|line| line.contains("auditship.service"));
        assert_eq!(about_it.collect::<Vec<_>>(), Vec::<&str>::new());
        // In tenths: 0 is closed, 100 open. Older versions know no --threshold.
        let secure = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
        assert_eq!(secure.code, 0, "{secure:?}");
    }
}

#[test]
fn completions_are_code_of_their_shell() {
    for (shell, name) in
        [("bash", "_auditship"), ("zsh", "#compdef auditship"), ("fish", "complete -c auditship")]
    {
        let ran = run(auditship().args(["completions", shell]), b"");
        assert!(ran.code == 0 && ran.out.contains(name) && ran.out.contains("doctor"), "{shell}: {ran:?}");
    }
    if has("bash", &["--version"]) {
        let text = run(auditship().args(["completions", "bash"]), b"").out;
        let script = "source /dev/stdin && complete -p auditship && COMP_WORDS=(auditship doc) COMP_CWORD=1 && _auditship auditship doc auditship && echo \"${COMPREPLY[@]}\"";
        let ran = run(Command::new("bash").args(["-c", script]), text.as_bytes());
        assert!(ran.code == 0 && ran.out.contains("doctor"), "{ran:?}");
    }
    assert_eq!(run(auditship().args(["completions", "tcsh"]), b"").code, 64);
}

#[test]
fn manual_pages() {
    let page = run(auditship().arg("man"), b"");
    assert!(page.code == 0 && page.out.contains(".TH auditship 1"), "{page:?}");
    let page = run(auditship().args(["man", "doctor"]), b"");
    assert!(
        page.code == 0 && page.out.contains(".TH auditship-doctor 1") && page.out.contains("manifest"),
        "{page:?}"
    );
    let none = run(auditship().args(["man", "surgeon"]), b"");
    assert!(none.code == 64 && none.err.contains("there are run, ship"), "{none:?}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man1");
    let all = run(auditship().args(["man", "--out"]).arg(&out), b"");
    assert_eq!(all.code, 0, "{all:?}");
    let mut names: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(
        names.contains(&"auditship.1".to_owned()) && names.contains(&"auditship-state-show.1".to_owned()),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("receiver") || name.contains("help")), "{names:?}");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(out.join("auditship.1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "everybody reads manual pages, whatever the umask");
}
