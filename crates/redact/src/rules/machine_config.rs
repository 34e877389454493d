//! Contents of OpenShift MachineConfigs.

use super::{Resource, Rule, Selector};
use crate::config::Action;

/// A MachineConfig holds the files of a node, pull secrets and keys among them, as `data:` URLs (github.com/coreos/ignition
/// `config/v3_4/schema/ignition.json`). Their names and modes stay.
pub(super) static RULE: Rule = Rule {
    name: "openshift-machine-config",
    doc: "contents of files and units, and password hashes, of OpenShift MachineConfigs",
    selector: Selector::Fields {
        kinds: &["MachineConfig", "MachineConfigList"],
        resources: &[Resource {
            group: "machineconfiguration.openshift.io",
            resource: "machineconfigs",
            subresource: "*",
        }],
        paths: &[
            "**.config.storage.files.contents",
            "**.config.storage.files.append",
            "**.config.systemd.units.contents",
            "**.config.systemd.units.dropins.contents",
            "**.config.passwd.users.passwordHash",
        ],
    },
    action: Action::Token,
};

#[cfg(test)]
mod tests {
    use crate::rules::testing::{check, unchanged};

    #[test]
    fn files_units_and_users() {
        check(
            r#"{"responseObject":{"kind":"MachineConfigList","items":[{"spec":{"config":{"storage":{"files":[{"path":"/etc/x","mode":384,"contents":{"source":"data:,a%20key"}}]},"systemd":{"units":[{"name":"a.service","contents":"[Unit]"}]},"passwd":{"users":[{"name":"core","passwordHash":"$6$x"}]}}}}]}}"#,
            r#"{"responseObject":{"kind":"MachineConfigList","items":[{"spec":{"config":{"storage":{"files":[{"path":"/etc/x","mode":384,"contents":{"source":"‹openshift-machine-config›"}}]},"systemd":{"units":[{"name":"a.service","contents":"‹openshift-machine-config›"}]},"passwd":{"users":[{"name":"core","passwordHash":"‹openshift-machine-config›"}]}}}}]}}"#,
        );
        check(
            r#"{"objectRef":{"resource":"machineconfigs","apiGroup":"machineconfiguration.openshift.io"},"requestObject":{"spec":{"config":{"storage":{"files":[{"append":[{"source":"data:,x"}]}]}}}}}"#,
            r#"{"objectRef":{"resource":"machineconfigs","apiGroup":"machineconfiguration.openshift.io"},"requestObject":{"spec":{"config":{"storage":{"files":[{"append":[{"source":"‹openshift-machine-config›"}]}]}}}}}"#,
        );
    }

    #[test]
    fn what_must_not_change() {
        unchanged(
            r#"{"requestObject":{"kind":"MachineConfig","spec":{"osImageURL":"registry.example.com/os","kernelArguments":["quiet"],"config":{"ignition":{"version":"3.4.0"},"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 AAAA"]}]}}}}}"#,
        );
    }
}
