//! Reading given files once.

use std::fs;
use std::path::PathBuf;

use auditship_tail::{Class, Format, Ledger, Once, Progress, Source};

use crate::world::{events, gzip, text};

fn read(paths: Vec<PathBuf>, format: Format) -> (Vec<String>, Ledger) {
    let mut once = Once::new(paths, format, 1 << 20).unwrap();
    let (mut lines, mut ledger) = (Vec::new(), Ledger::default());
    loop {
        let progress = once.read(&mut |line| {
            lines.push(String::from_utf8_lossy(line.bytes).into_owned());
            ledger.settle(line.span, line.carried, Class::Delivered);
        });
        once.lost().iter().for_each(|lost| ledger.lost(lost.reason, lost.span));
        if progress.unwrap() == Progress::End {
            break;
        }
    }
    assert_eq!(once.bytes_read(), once.bytes_total().unwrap());
    assert_eq!(ledger.faults(), 0);
    assert!(ledger.totals().adds_up());
    (lines, ledger)
}

#[test]
fn every_encoding_in_the_order_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("b"), text(0..100)).unwrap();
    fs::write(path("a.txt"), gzip(text(100..200).as_bytes())).unwrap();
    fs::write(path("c.gz"), zstd::encode_all(text(200..300).trim_end().as_bytes(), 1).unwrap()).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("d"), text(300..301)).unwrap();
    let paths = ["b", "a.txt", "c.gz", "empty", "d"].map(path).to_vec();
    let (lines, ledger) = read(paths, Format::Auto);
    assert_eq!(lines, events(0..301));
    assert_eq!(ledger.totals().read_bytes + 1, text(0..301).len() as u64);
}

#[test]
fn a_mistake_in_a_path_is_found_before_the_first_line() {
    let dir = tempfile::tempdir().unwrap();
    for (path, words) in
        [(dir.path().to_owned(), "is a directory"), (dir.path().join("none"), "No such file")]
    {
        let Err(error) = Once::new(vec![path.clone()], Format::Auto, 1 << 20) else { panic!("it opened") };
        let message = error.to_string();
        assert!(message.contains(words) && message.contains(&path.display().to_string()), "{message}");
    }
}

#[test]
fn a_corrupt_tail_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gzip(text(0..10_000).as_bytes());
    fs::write(dir.path().join("a.gz"), &whole[..whole.len() - 500]).unwrap();
    let (lines, ledger) = read(vec![dir.path().join("a.gz")], Format::Auto);
    assert!(lines.len() > 1000 && lines[..lines.len() - 1] == events(0..10_000)[..lines.len() - 1]);
    assert!(ledger.totals().lost_bytes["corrupt_gz"] > 0);
}

#[test]
fn a_run_of_records_goes_on_only_in_a_file_of_the_same_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let record = |flag: &str, content: &str| format!("2026-11-24T02:30:59.5Z stdout {flag} {content}\n");
    fs::write(path("0.log.20261124-023059.gz"), gzip(record("P", "{\"a\":").as_bytes())).unwrap();
    fs::write(path("0.log"), record("F", "1}")).unwrap();
    fs::write(path("1.log"), record("F", "2}")).unwrap();
    let (lines, ledger) = read(vec![path("0.log.20261124-023059.gz"), path("0.log")], Format::Cri);
    assert_eq!(lines, ["{\"a\":1}"]);
    assert_eq!(ledger.totals(), ledger.committed());
    let (lines, _) = read(vec![path("0.log.20261124-023059.gz"), path("1.log")], Format::Cri);
    assert_eq!(lines, ["{\"a\":", "2}"]);
}
