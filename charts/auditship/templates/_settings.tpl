{{/* What holds after the preset: the values, and where they are silent the preset's. YAML of one map. */}}
{{- define "auditship.settings" -}}
{{- $v := .Values -}}
{{- $preset := .Files.Get (printf "presets/%s.yaml" $v.preset) | fromYaml -}}
{{- $logs := default $preset.logs $v.audit.logs -}}
{{- $directories := list -}}
{{- range $logs -}}
  {{- $directories = append $directories (dir .path) -}}
{{- end -}}
{{- $static := ne $v.mode "daemonset" -}}
{{- $hostNetwork := or $static $v.hostNetwork -}}
{{- $dns := dict "to" (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $preset.dns.namespace)))) "port" $preset.dns.port -}}
{{- dict
  "logs" $logs
  "directories" ($directories | uniq | sortAlpha)
  "rootOwned" (ternary $preset.rootOwned $v.audit.rootOwned (kindIs "invalid" $v.audit.rootOwned))
  "nodeSelector" (ternary $preset.nodeSelector $v.nodeSelector (kindIs "invalid" $v.nodeSelector))
  "tolerations" (ternary $preset.tolerations $v.tolerations (kindIs "invalid" $v.tolerations))
  "seLinuxOptions" (ternary $preset.seLinuxOptions $v.seLinuxOptions (kindIs "invalid" $v.seLinuxOptions))
  "dns" (default $dns $v.networkPolicy.dns)
  "manifests" $preset.manifests
  "nodeDirectory" (default "/etc/auditship" $preset.nodeDirectory)
  "noSidecar" (default "" $preset.noSidecar)
  "securityContextConstraints" (and (not $static) (default false $preset.securityContextConstraints))
  "static" $static
  "hostNetwork" $hostNetwork
  "listen" (default (ternary "127.0.0.1" "0.0.0.0" $hostNetwork) $v.metrics.listen)
| toYaml -}}
{{- end -}}

{{/* Bytes of a size, of the agent's form (48MiB) or of Kubernetes' (192Mi); 0 if it is neither. */}}
{{- define "auditship.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1 "B" 1 "K" 1000 "k" 1000 "KB" 1000 "kB" 1000 "M" 1000000 "MB" 1000000 "G" 1000000000 "GB" 1000000000 "Ki" 1024 "KiB" 1024 "Mi" 1048576 "MiB" 1048576 "Gi" 1073741824 "GiB" 1073741824 -}}
{{- $number := regexFind "^[0-9]+" $text -}}
{{- $unit := trimPrefix $number $text | trim -}}
{{- if and $number (hasKey $units $unit) -}}{{ mul (atoi $number) (get $units $unit) }}{{- else -}}0{{- end -}}
{{- end -}}

{{/* The `dir` outputs: YAML of {items: [{name, path}]}. */}}
{{- define "auditship.archives" -}}
{{- $items := list -}}
{{- range $name, $output := .Values.config.outputs -}}
  {{- if and (kindIs "map" $output) (eq (toString $output.type) "dir") $output.path -}}
    {{- $items = append $items (dict "name" $name "path" $output.path) -}}
  {{- end -}}
{{- end -}}
{{- dict "items" $items | toYaml -}}
{{- end -}}

{{/* Whether `path` (first) is `folder` (second) or in it: "yes" or nothing. */}}
{{- define "auditship.isIn" -}}
{{- $path := index . 0 -}}
{{- $folder := trimSuffix "/" (index . 1) -}}
{{- if or (eq $path $folder) (hasPrefix (printf "%s/" $folder) $path) -}}yes{{- end -}}
{{- end -}}
