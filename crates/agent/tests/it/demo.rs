//! `demo`: the whole product, with nothing left behind.

use crate::support::{Report, archive, auditship, lines, run, testdata};

#[test]
fn it_delivers_everything_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(auditship().args(["demo", "--json"]).env("TMPDIR", dir.path()), b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = Report(serde_json::from_str(&ran.out).unwrap());
    report.assert_law();
    let count = lines(&testdata("audit.jsonl.gz")).len() as u64;
    for output in ["search", "archive"] {
        assert_eq!(report.get(output, "read/lines"), count, "{output}");
        assert_eq!(report.get(output, "open") + report.get(output, "lost_bytes"), 0, "{output}");
    }
    assert_eq!(report.get("archive", "delivered"), count);
    assert!(report.get("archive", "redactions") > 0);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_keeps_what_it_is_told_to_keep() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    let demo = || run(auditship().args(["demo", "--keep"]).arg(&kept), b"");
    let ran = demo();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("every line accounted for in both outputs"), "{}", ran.out);
    for name in ["config.yaml", "log/audit.log", "state/key"] {
        assert!(kept.join(name).exists(), "{name}");
    }
    let count = lines(&testdata("audit.jsonl.gz")).len();
    assert_eq!(archive(&kept.join("archive")).len(), count);
    let again = demo();
    assert_eq!(again.code, 64, "{again:?}");
    assert!(again.err.contains("not empty"), "{again:?}");
}
