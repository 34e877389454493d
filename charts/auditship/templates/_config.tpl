{{/* The configuration of the agent. */}}

{{/* What the chart says of it: YAML of one map. */}}
{{- define "auditship.chartConfig" -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
{{- $inputs := dict -}}
{{- range $name, $log := $s.logs -}}
  {{- $_ := set $inputs $name (merge (dict "type" "file") $log) -}}
{{- end -}}
{{- $config := dict
  "inputs" $inputs
  "node" "${env:NODE_NAME}"
  "state_dir" .Values.state.hostPath
  "admin" (dict "listen" (printf "%s:%v" $s.listen .Values.metrics.port))
-}}
{{- if .Values.key.secret -}}
  {{- $_ := set $config "key_file" "/etc/auditship/key/key" -}}
{{- else if .Values.key.file -}}
  {{- $_ := set $config "key_file" .Values.key.file -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The whole file; only the chart's part where the rest is in a Secret of the user's. */}}
{{- define "auditship.agentConfig" -}}
{{- $chart := include "auditship.chartConfig" . | fromYaml -}}
{{- if .Values.existingConfig.secret -}}
{{- toYaml $chart -}}
{{- else -}}
{{- merge (deepCopy .Values.config) $chart | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Whether a value that may be a secret stands in the configuration itself, and is no reference: "yes" or nothing. */}}
{{- define "auditship.holdsSecrets" -}}
{{- $found := "" -}}
{{- if not .Values.existingConfig.secret -}}
  {{- range $output := .Values.config.outputs -}}
    {{- if kindIs "map" $output -}}
      {{- $connection := default dict $output.connection -}}
      {{- range $part := list $output.auth $output.credentials $output.headers $connection.proxy_auth -}}
        {{- if include "auditship.holdsLiteral" $part -}}{{- $found = "yes" -}}{{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{- define "auditship.holdsLiteral" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) -}}
  {{- range . -}}{{- include "auditship.holdsLiteral" . -}}{{- end -}}
{{- else if kindIs "string" . -}}
  {{- if not (regexMatch "^\\$\\{(env|file):[^}]+\\}$" .) -}}yes{{- end -}}
{{- else if not (kindIs "invalid" .) -}}
  yes
{{- end -}}
{{- end -}}

{{/* What the file is kept in. */}}
{{- define "auditship.configKind" -}}
{{- if include "auditship.holdsSecrets" . -}}Secret{{- else -}}ConfigMap{{- end -}}
{{- end -}}

{{/* Another configuration is another object: a Pod that was started with a good one keeps it. */}}
{{- define "auditship.configName" -}}
{{- printf "%s-config-%s" (include "auditship.fullname" .) (include "auditship.agentConfig" . | sha256sum | trunc 8) -}}
{{- end -}}

{{/* Arguments that name it, from where it is mounted. */}}
{{- define "auditship.configArguments" -}}
{{- if .Values.existingConfig.secret -}}
- --config=/etc/auditship/existing/{{ .Values.existingConfig.key }}
{{ end -}}
- --config=/etc/auditship/{{ ternary "config.yaml" "config/config.yaml" (ne .Values.mode "daemonset") }}
{{- end -}}
