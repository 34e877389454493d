//! Lines cut anywhere: a writer that died, a disk that was full. No byte of a secret leaves with what is left of
//! its line, neither through `ship` nor through `redact`.

use crate::support::{Place, auditship, contains, event, leak, lines, run, secret_event};

const SECRET: &str = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhdmUtdGhlLW5vZGU=";

fn ship(text: &[u8]) -> (Place, crate::support::Shipped) {
    let place = Place::new();
    place.configure("search: {type: elasticsearch, endpoint: URL, filter: none}", "");
    let file = place.write("in", text);
    let shipped = place.ship(&[], &[&file], b"");
    (place, shipped)
}

/// The event cut at every byte, both halves, on lines of their own.
fn pieces() -> Vec<u8> {
    let line = secret_event(1, SECRET).into_bytes();
    let mut text = Vec::new();
    for at in 1..line.len() {
        for half in [&line[..at], &line[at..]] {
            text.extend_from_slice(half);
            text.push(b'\n');
        }
    }
    text
}

#[test]
fn a_line_cut_at_any_byte_gives_no_secret_away() {
    let text = pieces();
    let (place, shipped) = ship(&text);
    let report = shipped.assert_clean();
    let count = lines(&text).len() as u64;
    assert_eq!(report.get("search", "read/lines"), count, "{report:?}");
    let settled = report.get("search", "delivered") + report.get("search", "skipped");
    assert_eq!(settled, count, "{report:?}");
    // Every head begins like an event of the API server, so every one leaves as a stub that says so.
    assert!(report.get("search", "failed_closed/truncated") >= count / 3, "{report:?}");
    assert_eq!(leak(&place.left(), SECRET), None);
}

#[test]
fn redact_gives_no_secret_of_a_cut_line_away() {
    let text = pieces();
    let ran = run(auditship().arg("redact"), &text);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(lines(ran.out.as_bytes()).len(), lines(&text).len());
    let given: Vec<(String, &[u8])> = lines(ran.out.as_bytes())
        .into_iter()
        .zip(lines(&text))
        .filter_map(|(out, line)| Some((leak(out, SECRET)?, line)))
        .collect();
    if let Some((stretch, line)) = given.first() {
        panic!(
            "{} of {} pieces give something away, the first {stretch:?} of\n{}",
            given.len(),
            lines(&text).len(),
            String::from_utf8_lossy(line)
        );
    }
}

#[test]
fn glued_and_torn() {
    let whole = event(2);
    let torn = secret_event(1, SECRET);
    let torn = &torn[..torn.find(SECRET).unwrap() + 30];
    for (what, line, documents, reasons) in [
        ("two events", format!("{}{whole}", event(0)), 2, &[][..]),
        ("three events", format!("{}{whole}{}", event(0), event(3)), 3, &[]),
        ("a torn one and a whole one", format!("{torn}{whole}"), 2, &["torn"]),
        ("a whole one and a torn one", format!("{whole}{torn}"), 2, &["truncated"]),
        ("whole, torn, whole", format!("{}{torn}{whole}", event(0)), 3, &["torn"]),
        ("a torn one at the end of the file", format!("{whole}\n{torn}"), 2, &["truncated"]),
    ] {
        let (place, shipped) = ship(line.as_bytes());
        let report = shipped.assert_clean();
        assert_eq!(report.get("search", "read/lines"), lines(line.as_bytes()).len() as u64, "{what}");
        assert_eq!(
            report.get("search", "delivered"),
            report.get("search", "read/lines"),
            "{what}: {report:?}"
        );
        assert_eq!(place.documents().len(), documents, "{what}");
        for reason in reasons {
            assert_eq!(report.get("search", &format!("failed_closed/{reason}")), 1, "{what}: {report:?}");
        }
        assert_eq!(report.get("search", "failed_closed"), reasons.len() as u64, "{what}: {report:?}");
        assert_eq!(leak(&place.left(), SECRET), None, "{what}");
        assert!(contains(&place.left(), crate::support::audit_id(2).as_bytes()), "{what}");
    }
}
