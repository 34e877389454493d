//! An audit policy with one defect each, and files that are no policy.

use super::*;

#[test]
fn kubeadm_with_a_policy_that() {
    for (rest, want) in [
        // Is gone, or is none.
        (
            "",
            expect![[r#"
            fail  policy      the API server refuses the policy: there is no rule (/etc/kubernetes/audit/policy.yaml)
        "#]],
        ),
        (
            "rules: [{level: All}]",
            expect![[r#"
            fail  policy      the API server refuses the policy: rules[0].level: no level "All" (/etc/kubernetes/audit/policy.yaml)
        "#]],
        ),
        // Logs nothing, or not everything.
        (
            "rules: [{level: None}]",
            expect![[r#"
                fail  policy      every rule says None (1 rule), so nothing is logged (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: None}, {level: Metadata}]",
            expect![[r#"
                fail  policy      the first rule takes every request and logs nothing of it (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
            "#]],
        ),
        (
            "rules: [{level: Metadata, verbs: [create]}]",
            expect![[r#"
                warn  policy      what no rule takes is not logged (1 rule, none for the rest) (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: Metadata, verbs: [create]}, {level: None}]",
            expect![[r#"
                warn  policy      what no rule takes is not logged (2 rules, the last one says None) (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
            "#]],
        ),
        (
            "rules: [{level: Metadata}, {level: Request, verbs: [create]}]",
            expect![[r#"
                warn  policy      rule 1 of 2 takes every request, so those after it never match (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
            "#]],
        ),
        // Logs too much.
        (
            "rules: [{level: RequestResponse}]",
            expect![[r#"
                warn  policy      what no narrower rule takes is logged with both bodies (1 rule): many times the bytes (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # …the others, then:
                                      - {level: Metadata}
                warn  bodies      credentials are written to the node's disk with the bodies of what holds them (secrets by rule 1, serviceaccounts/token by rule 1, tokenreviews by rule 1)
                                    in the policy file, which the API server reads when it starts:
                                      rules:
                                      # in front of the rules named above; auditship takes them out, but the file on the node has them
                                      - level: Metadata
                                        resources:
                                        - {group: '', resources: [secrets, serviceaccounts/token]}
                                        - {group: authentication.k8s.io, resources: [tokenreviews]}
            "#]],
        ),
        // Misspells a key.
        (
            "rules: [{level: None, resource: [{resources: [leases]}]}, {level: Metadata}]",
            expect![[r#"
                fail  policy      the first rule takes every request and logs nothing of it (/etc/kubernetes/audit/policy.yaml)
                                    the first rule that matches decides: move it to the end, or narrow it
                fail  policy      the API server passes over keys that it does not know: rules[0].resource (/etc/kubernetes/audit/policy.yaml)
                                    a misspelt key makes a rule match more than was meant: correct it
            "#]],
        ),
    ] {
        defect(KUBEADM, |facts| policy(facts, rest), want);
    }
}

#[test]
fn kubeadm_with_a_policy_whose_stages() {
    for (stages, want) in [
        (
            "",
            expect![[r#"
                warn  stages      RequestReceived is logged too: nearly twice the events, and nothing that the later one lacks
                                    in the policy file, which the API server reads when it starts:
                                      omitStages: [RequestReceived]
            "#]],
        ),
        (
            "ResponseStarted, RequestReceived, Panic",
            expect![[r#"
                warn  stages      ResponseStarted is left out, and with it every refused authentication (401)
                                    take ResponseStarted out of omitStages
            "#]],
        ),
        (
            "RequestReceived, Panic",
            expect![[r#"
                warn  stages      Panic is left out: requests that crash their handler leave no trace
                                    take Panic out of omitStages
            "#]],
        ),
        (
            "ResponseComplete",
            expect![[r#"
                fail  stages      ResponseComplete is left out, which is nearly every event
                                    take ResponseComplete out of omitStages
            "#]],
        ),
    ] {
        let text = with(mend::POLICY, "omitStages: [RequestReceived]", &format!("omitStages: [{stages}]"));
        defect(KUBEADM, |facts| facts.policy = Some(Seen::Is(text.into_bytes())), want);
    }
}

#[test]
fn kubeadm_with_a_policy_file_that_is_not_one() {
    for (text, want) in [
        (
            Seen::Missing,
            expect![[r#"
                fail  policy      the policy file does not exist, so the API server cannot start (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
        (
            Seen::Is(b"\x7fELF\x00".to_vec()),
            expect![[r#"
                fail  policy      the policy file is no policy, so the API server cannot start: not text, and so no YAML (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
        (
            Seen::Is(mend::POLICY.replace("/v1\n", "/v1beta1\n").into_bytes()),
            expect![[r#"
                fail  policy      the policy is audit.k8s.io/v1beta1, which Kubernetes 1.24 and later refuse (/etc/kubernetes/audit/policy.yaml)
                                    in the policy file, which the API server reads when it starts:
                                      apiVersion: audit.k8s.io/v1
            "#]],
        ),
        (
            Seen::Is(b"kind: Pod".to_vec()),
            expect![[r#"
                fail  policy      the policy file is no policy, so the API server cannot start: no audit policy: it wants apiVersion: audit.k8s.io/v1 and kind: Policy (/etc/kubernetes/audit/policy.yaml)
                                    write /etc/kubernetes/audit/policy.yaml, on every control plane node:
                                      apiVersion: audit.k8s.io/v1
                                      kind: Policy
                                      omitStages: [RequestReceived]
                                      omitManagedFields: true
                                      rules:
                                      - {level: None, nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/logs*', /metrics, '/openapi/*', '/swagger*', /version]}
                                      - {level: Metadata, resources: [{group: authentication.k8s.io, resources: [tokenreviews]}]}
                                      - {level: RequestResponse, resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]}
                                      - {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection], resources: [{group: '', resources: [pods]}]}
                                      - {level: Metadata}
            "#]],
        ),
    ] {
        defect(KUBEADM, |facts| facts.policy = Some(text), want);
    }
}
