{{/* What values say of each other. Each contradiction ends the rendering with a sentence that says what to do.

What one value may be by itself is the schema's. */}}
{{- define "auditship.checks" -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
{{- if and (eq .Values.mode "sidecar") $s.noSidecar -}}
  {{- fail (printf "mode=sidecar does not work with preset %s: %s. Use mode=daemonset or mode=static-pod" .Values.preset $s.noSidecar) -}}
{{- end -}}
{{- include "auditship.checkConfig" . -}}
{{- include "auditship.checkPaths" (list . $s) -}}
{{- if $s.static -}}
  {{- include "auditship.checkStatic" (list . $s) -}}
{{- else if .Values.key.file -}}
  {{- fail "key.file is for mode static-pod or sidecar: put the key into a Secret, and set key.secret" -}}
{{- end -}}
{{- include "auditship.checkMetrics" (list . $s) -}}
{{- include "auditship.checkNetwork" (list . $s) -}}
{{- include "auditship.checkSizes" . -}}
{{- if and .Values.image.tag .Values.image.digest -}}
  {{- fail "image.tag and image.digest are both set, and the digest would decide: remove one" -}}
{{- end -}}
{{- if and $s.securityContextConstraints (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
  {{- fail "preset openshift gives a service account leave to mount host directories, which must not be the namespace's default one: set serviceAccount.name, or serviceAccount.create=true" -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkConfig" -}}
{{- $v := .Values -}}
{{- if $v.existingConfig.secret -}}
  {{- if $v.config -}}
    {{- fail "config and existingConfig.secret are both set: keep one, since the agent's configuration comes from one place" -}}
  {{- end -}}
{{- else -}}
  {{- range $key, $value := dict "inputs" "audit.logs" "state_dir" "state.hostPath" "key_file" "key.secret (in mode static-pod or sidecar: key.file)" "admin" "metrics.listen and metrics.port" -}}
    {{- if hasKey $v.config $key -}}
      {{- fail (printf "config.%s is what the chart writes: remove it, and set %s" $key $value) -}}
    {{- end -}}
  {{- end -}}
  {{- if hasKey $v.config "node" -}}
    {{- fail "config.node is what the chart writes, from the name of the node: remove it" -}}
  {{- end -}}
  {{- if not $v.config.outputs -}}
    {{- fail "config.outputs is empty, so events would go nowhere: set one, such as config.outputs.search={type: elasticsearch, endpoint: https://logs.example:9200}, or name a Secret with the whole configuration in existingConfig.secret" -}}
  {{- end -}}
  {{- if not $v.config.cluster -}}
    {{- fail "config.cluster is not set: give the cluster a name that is its own and never changes, for it is part of the identity of every event" -}}
  {{- end -}}
  {{- include "auditship.checkReferences" . -}}
{{- end -}}
{{- end -}}

{{/* Variables and files that the configuration names must be there. */}}
{{- define "auditship.checkReferences" -}}
{{- $root := . -}}
{{- $text := toYaml .Values.config | replace "$${" "" -}}
{{- $names := list "NODE_NAME" -}}
{{- range .Values.env -}}{{- $names = append $names .name -}}{{- end -}}
{{- range regexFindAll "\\$\\{env:[^}]*\\}" $text -1 -}}
  {{- $name := trimSuffix "}" . | trimPrefix "${env:" -}}
  {{- if not (has $name $names) -}}
    {{- fail (printf "config takes a value from the environment variable %s, which the container does not have: add it to env" $name) -}}
  {{- end -}}
{{- end -}}
{{- $paths := list -}}
{{- range regexFindAll "\\$\\{file:[^}]*\\}" $text -1 -}}
  {{- $paths = append $paths (trimSuffix "}" . | trimPrefix "${file:") -}}
{{- end -}}
{{- range regexFindAll "(?m)(ca_file|cert_file|key_file): *\\S+$" $text -1 -}}
  {{- $paths = append $paths (regexReplaceAll "^\\w+: *" . "" | trimAll "\"'") -}}
{{- end -}}
{{- range $path := $paths -}}
  {{- if not (include "auditship.isMounted" (list $root $path)) -}}
    {{- if ne $root.Values.mode "daemonset" -}}
      {{- fail (printf "config reads %s, which is not mounted: put the file into %s on each node, and read /etc/auditship/FILE" $path (include "auditship.settings" $root | fromYaml).nodeDirectory) -}}
    {{- else -}}
      {{- fail (printf "config reads %s, which is not mounted: name the Secret or ConfigMap that has it in files, such as files.backend.secret=NAME, and read /etc/auditship/files/backend/KEY" $path) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "auditship.isMounted" -}}
{{- $root := index . 0 -}}
{{- $path := index . 1 -}}
{{- $folders := list -}}
{{- if ne $root.Values.mode "daemonset" -}}
  {{- $folders = list "/etc/auditship" -}}
{{- else -}}
  {{- range $name, $_ := $root.Values.files -}}
    {{- $folders = append $folders (printf "/etc/auditship/files/%s" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $root.Values.extraVolumeMounts -}}
  {{- $folders = append $folders .mountPath -}}
{{- end -}}
{{- range $folders -}}
  {{- include "auditship.isIn" (list $path .) -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkPaths" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- if not $s.logs -}}
  {{- fail "preset custom knows of no audit log: set audit.logs.apiserver.path to what --audit-log-path of the API server says" -}}
{{- end -}}
{{- range $name, $log := $s.logs -}}
  {{- if regexMatch "[*?]" (dir $log.path) -}}
    {{- fail (printf "audit.logs.%s.path has a wildcard in its directory, which is mounted: use wildcards in the name of the file only, and one log for each directory" $name) -}}
  {{- end -}}
  {{- if eq (dir $log.path) "/" -}}
    {{- fail (printf "audit.logs.%s.path is in the root directory, so that all of the node would be mounted: let the API server log into a directory of its own" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $directory := $s.directories -}}
  {{- if include "auditship.isIn" (list $root.Values.state.hostPath $directory) -}}
    {{- fail (printf "state.hostPath %s is inside of the audit directory %s, which is mounted read-only: use a directory of its own, such as /var/lib/auditship" $root.Values.state.hostPath $directory) -}}
  {{- end -}}
  {{- range (include "auditship.archives" $root | fromYaml).items -}}
    {{- if include "auditship.isIn" (list .path $directory) -}}
      {{- fail (printf "config.outputs.%s.path %s is inside of the audit directory %s, which is mounted read-only: use a directory of its own" .name .path $directory) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkStatic" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- $v := $root.Values -}}
{{- $why := printf "with mode=%s the kubelet starts the container from a file, so it can read no Secret and no ConfigMap" $v.mode -}}
{{- if $v.hostNetwork -}}
  {{- fail (printf "hostNetwork is for mode=daemonset: with mode=%s the container is on the host's network anyway. Remove it" $v.mode) -}}
{{- end -}}
{{- if $v.files -}}
  {{- fail (printf "%s: put what files names into %s on each node, read /etc/auditship/FILE, and remove files" $why $s.nodeDirectory) -}}
{{- end -}}
{{- if $v.existingConfig.secret -}}
  {{- fail (printf "%s: set config, and remove existingConfig.secret" $why) -}}
{{- end -}}
{{- if $v.key.secret -}}
  {{- fail (printf "%s: put the key into %s on each node, set key.file=/etc/auditship/FILE, and remove key.secret" $why $s.nodeDirectory) -}}
{{- end -}}
{{- if and $v.key.file (not (include "auditship.isIn" (list $v.key.file "/etc/auditship"))) -}}
  {{- fail (printf "key.file %s is not mounted: put the key into %s on each node, and set key.file=/etc/auditship/FILE" $v.key.file $s.nodeDirectory) -}}
{{- end -}}
{{- range $v.env -}}
  {{- $from := default dict .valueFrom -}}
  {{- if or $from.secretKeyRef $from.configMapKeyRef -}}
    {{- fail (printf "%s: put what %s has into a file in %s on each node, read it by ${file:/etc/auditship/FILE} in config, and remove it from env" $why .name $s.nodeDirectory) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkMetrics" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- $v := $root.Values -}}
{{- $loopback := has $s.listen (list "127.0.0.1" "[::1]") -}}
{{- if and $loopback (not $s.hostNetwork) -}}
  {{- fail (printf "metrics.listen is %s, where neither the kubelet's probes nor Prometheus reach a Pod: leave it empty" $s.listen) -}}
{{- end -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
  {{- fail "podMonitor.enabled and serviceMonitor.enabled are both set, so that everything would be counted twice: keep one" -}}
{{- end -}}
{{- if or $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
  {{- if $s.static -}}
    {{- fail (printf "podMonitor and serviceMonitor find Pods of the chart's own, of which mode=%s makes none: remove them, and scrape 127.0.0.1:%v on each node" $v.mode $v.metrics.port) -}}
  {{- end -}}
  {{- if $loopback -}}
    {{- fail "with hostNetwork the metrics are on 127.0.0.1, where Prometheus does not reach them: set metrics.listen to 0.0.0.0 and close the port to others on the node, or remove podMonitor and serviceMonitor" -}}
  {{- end -}}
  {{- if and $v.networkPolicy.enabled (not $s.hostNetwork) (not $v.networkPolicy.metricsFrom) -}}
    {{- fail "nobody may scrape, since the network policy lets nobody in: name Prometheus in networkPolicy.metricsFrom, such as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], or set networkPolicy.enabled=false" -}}
  {{- end -}}
{{- end -}}
{{- if $v.prometheusRule.disabled -}}
  {{- $alerts := list -}}
  {{- range (index ($root.Files.Get "files/alerts.yaml" | fromYaml) "groups") -}}
    {{- range .rules -}}{{- $alerts = append $alerts .alert -}}{{- end -}}
  {{- end -}}
  {{- range $v.prometheusRule.disabled -}}
    {{- if not (has . $alerts) -}}
      {{- fail (printf "prometheusRule.disabled names %s, and there is no such alert: there are %s" . (join ", " $alerts)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkNetwork" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- $v := $root.Values -}}
{{- if $s.hostNetwork -}}
  {{- if or $v.networkPolicy.metricsFrom $v.networkPolicy.egress -}}
    {{- fail "a network policy does not reach what is on the host's network: remove networkPolicy.metricsFrom and networkPolicy.egress, and use the node's firewall" -}}
  {{- end -}}
{{- else if and $v.networkPolicy.enabled $v.existingConfig.secret (kindIs "invalid" $v.networkPolicy.egress) -}}
  {{- fail "the outputs are in existingConfig.secret, where the chart cannot read them: say in networkPolicy.egress where the agent may connect to, or set networkPolicy.enabled=false" -}}
{{- end -}}
{{- end -}}

{{- define "auditship.checkSizes" -}}
{{- $v := .Values -}}
{{- $budget := dig "limits" "memory" "48MiB" $v.config -}}
{{- $limit := dig "limits" "memory" "" $v.resources -}}
{{- $budgetBytes := include "auditship.bytes" $budget | int64 -}}
{{- $limitBytes := include "auditship.bytes" $limit | int64 -}}
{{- if and $limitBytes $budgetBytes (lt $limitBytes (mul 2 $budgetBytes)) -}}
  {{- fail (printf "resources.limits.memory is %s, less than twice config.limits.memory (%s), so that the kernel would end the agent in an outage: raise the former, or lower the latter" $limit $budget) -}}
{{- end -}}
{{- $deadline := regexFind "^[0-9]+s$" (toString (default "20s" $v.config.shutdown_deadline)) | trimSuffix "s" -}}
{{- if and $deadline (le (int $v.terminationGracePeriodSeconds) (atoi $deadline)) -}}
  {{- fail (printf "terminationGracePeriodSeconds is %d, and the agent takes up to %ss (config.shutdown_deadline) to stop: raise the former" (int $v.terminationGracePeriodSeconds) $deadline) -}}
{{- end -}}
{{- end -}}
