//! Manifests and policies with anything in them.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a manifest and a policy hold, there is an error or a verdict, and nothing in it acts on a terminal.
    #[test]
    fn is_judged(
        which in 0..7usize,
        holes in proptest::collection::vec((any::<prop::sample::Index>(), 0..12usize, "[ -~\n\u{1b}\u{202e}]{0,8}"), 0..6),
        policy in "(apiVersion: audit.k8s.io/v1\nkind: Policy\n)?[ -~\n]{0,80}",
        rate in any::<u64>(),
    ) {
        let mut text = [KUBEADM, KIND, RKE2, K3S, KOPS, TALOS, OPENSHIFT][which].as_bytes().to_vec();
        for (at, length, instead) in holes {
            let at = at.index(text.len());
            text.splice(at..(at + length).min(text.len()), instead.bytes());
        }
        let Ok(documents) = yaml::documents(&text) else { return Ok(()) };
        let Some(server) = rancher::read("x", &documents).or_else(|| Server::read(&documents).ok()) else {
            return Ok(());
        };
        let node = node(&server);
        let policy = Some(Seen::Is(policy.into_bytes()));
        let facts = Facts { server, from: "x".to_owned(), policy, node: Some(node) };
        let rate = Some(super::super::Rate::told(rate as f64));
        let verdicts = examine(&facts, Wanted { rate, ..wanted() });
        prop_assert!(verdicts.len() > 1);
        let shown = show::text(&facts, &verdicts, Colour::No);
        prop_assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}
