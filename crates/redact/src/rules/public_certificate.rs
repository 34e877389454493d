//! Certificates and requests for them: public, and bulky.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// What Kubernetes' own types hold of certificates as bytes: `WebhookClientConfig`, `APIServiceSpec`,
/// `WebhookConversion`, `CertificateSigningRequest` (k8s.io/api `admissionregistration/v1/types.go`,
/// `certificates/v1/types.go`; k8s.io/kube-aggregator and k8s.io/apiextensions-apiserver likewise).
///
/// Whole paths and not `**.caBundle`: the schema in a CustomResourceDefinition may describe a field of that name.
pub(super) static RULE: Rule = Rule {
    name: "public-certificate",
    doc: "`caBundle` of webhooks, APIServices and CustomResourceDefinitions, `spec.request` and `status.certificate` \
          of CertificateSigningRequests: not secret, but bulky",
    selector: Selector::Fields {
        kinds: &[
            "MutatingWebhookConfiguration",
            "MutatingWebhookConfigurationList",
            "ValidatingWebhookConfiguration",
            "ValidatingWebhookConfigurationList",
            "APIService",
            "APIServiceList",
            "CustomResourceDefinition",
            "CustomResourceDefinitionList",
            "CertificateSigningRequest",
            "CertificateSigningRequestList",
        ],
        resources: &[
            Resource {
                group: "admissionregistration.k8s.io",
                resource: "mutatingwebhookconfigurations",
                subresource: "",
            },
            Resource {
                group: "admissionregistration.k8s.io",
                resource: "validatingwebhookconfigurations",
                subresource: "",
            },
            Resource { group: "apiregistration.k8s.io", resource: "apiservices", subresource: "*" },
            Resource {
                group: "apiextensions.k8s.io",
                resource: "customresourcedefinitions",
                subresource: "*",
            },
            Resource {
                group: "certificates.k8s.io",
                resource: "certificatesigningrequests",
                subresource: "*",
            },
        ],
        paths: &[
            "webhooks.clientConfig.caBundle",
            "spec.caBundle",
            "spec.conversion.webhook.clientConfig.caBundle",
            "spec.conversion.webhookClientConfig.caBundle",
            "spec.request",
            "status.certificate",
            "items.webhooks.clientConfig.caBundle",
            "items.spec.caBundle",
            "items.spec.conversion.webhook.clientConfig.caBundle",
            "items.spec.conversion.webhookClientConfig.caBundle",
            "items.spec.request",
            "items.status.certificate",
        ],
    },
    action: Action::Digest,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};
    use crate::{RedactConfig, Redactor, Scratch};
    use auditship_event::{Event, Keys};

    /// `-----BEGIN CERTIFICATE-----`, `AAEC`, `-----END CERTIFICATE-----`.
    const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBRUMKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

    fn objects(value: &str) -> Vec<String> {
        [
            r#"{"responseObject":{"kind":"MutatingWebhookConfiguration","webhooks":[{"name":"a","clientConfig":{"caBundle":"X"}},{"clientConfig":{"caBundle":"X","url":"u"}}]}}"#,
            r#"{"responseObject":{"kind":"ValidatingWebhookConfigurationList","items":[{"webhooks":[{"clientConfig":{"caBundle":"X"}}]}]}}"#,
            r#"{"objectRef":{"resource":"apiservices","apiGroup":"apiregistration.k8s.io"},"requestObject":{"spec":{"caBundle":"X"}}}"#,
            r#"{"objectRef":{"resource":"apiservices","apiGroup":"apiregistration.k8s.io"},"requestObject":[{"op":"add","path":"/spec/caBundle","value":"X"}]}"#,
            r#"{"requestObject":{"kind":"CustomResourceDefinition","spec":{"conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"caBundle":"X"}}}}}}"#,
            r#"{"objectRef":{"resource":"certificatesigningrequests","apiGroup":"certificates.k8s.io","subresource":"approval"},"requestObject":{"kind":"CertificateSigningRequest","spec":{"request":"X","usages":["client auth"]},"status":{"certificate":"X"}}}"#,
        ]
        .map(|event| event.replace("\"X\"", &format!("\"{value}\"")))
        .into()
    }

    #[test]
    fn objects_lists_and_patches() {
        for (event, want) in objects(PEM).iter().zip(objects("‹public-certificate›")) {
            check(event, &want);
        }
    }

    fn redacted(line: &str) -> String {
        let redactor = Redactor::new(&RedactConfig::default(), Keys::derive(b"key", "c")).unwrap();
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        redactor.body(&Event::parse(line.as_bytes()).unwrap(), &mut scratch).unwrap().write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_digest_is_that_of_the_certificate() {
        let event = format!(r#"{{"requestObject":{{"kind":"APIService","spec":{{"caBundle":"{PEM}"}}}}}}"#);
        let digest = "66c3b95b78454ee53b0f72c57c05984cd776ef867f780ef97232914ad0ef4d74";
        assert_eq!(
            redacted(&event),
            event.replace(PEM, &format!("redacted:public-certificate:sha256-{digest}:{}", PEM.len()))
        );
    }

    #[test]
    fn what_is_no_certificate_gets_no_digest_that_a_guess_could_be_tested_with() {
        let event = r#"{"requestObject":{"kind":"APIService","spec":{"caBundle":"aHVudGVyMg=="}}}"#;
        let out = redacted(event);
        assert!(out.contains("redacted:public-certificate:") && !out.contains("sha256"), "{out}");
    }

    #[test]
    fn what_must_not_change() {
        // The schema of a field of this name, and what other kinds have at the same places.
        unchanged(
            r#"{"responseObject":{"kind":"CustomResourceDefinition","spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"spec":{"properties":{"caBundle":{"description":"PEM","format":"byte","type":"string"}}}}}}}]}}}"#,
        );
        unchanged(&format!(
            r#"{{"requestObject":{{"kind":"Issuer","spec":{{"caBundle":"{PEM}","request":"{PEM}"}}}}}}"#
        ));
        unchanged(
            r#"{"requestObject":{"kind":"CertificateSigningRequest","spec":{"signerName":"kubernetes.io/kubelet-serving","username":"u"},"status":{"conditions":[{"type":"Approved","message":"m"}]}}}"#,
        );
    }
}
