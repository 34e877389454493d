{{/* Where the agent may connect to, derived from its outputs. YAML of {items: [NetworkPolicy egress rules]}.

A NetworkPolicy knows addresses, Pods and ports, but no host names. So: an address is allowed as such; a Service as its
namespace, on any port (a policy sees the port of the Pod behind, not that of the Service); any other name as its port, on all
addresses but link-local ones (the metadata of clouds). */}}
{{- define "auditship.derivedEgress" -}}
{{- $items := list -}}
{{- $urls := list -}}
{{- range $output := .Values.config.outputs -}}
  {{- if kindIs "map" $output -}}
    {{- $connection := default dict $output.connection -}}
    {{- $url := default "" (coalesce $output.endpoint $output.url) -}}
    {{- if and (not $url) (has $output.type (list "datadog" "s3")) -}}
      {{- $url = "https://any.name" -}}
    {{- end -}}
    {{- if $connection.proxy -}}
      {{- $urls = append $urls $connection.proxy -}}
    {{- end -}}
    {{- if and $url (or (not $connection.proxy) $connection.no_proxy) -}}
      {{- $urls = append $urls $url -}}
    {{- end -}}
    {{- if and (eq (toString $output.type) "s3") (not $output.credentials) -}}
      {{- /* Credentials of the instance and of EKS Pod Identity; STS is where S3 is, on 443. */ -}}
      {{- $to := list (dict "ipBlock" (dict "cidr" "169.254.169.254/32")) (dict "ipBlock" (dict "cidr" "169.254.170.23/32")) -}}
      {{- $items = append $items (dict "to" $to "ports" (list (dict "protocol" "TCP" "port" 80))) -}}
      {{- $urls = append $urls "https://any.name" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range .Values.env -}}
  {{- if and (has (upper .name) (list "HTTPS_PROXY" "HTTP_PROXY" "ALL_PROXY")) .value -}}
    {{- $urls = append $urls .value -}}
  {{- end -}}
{{- end -}}
{{- range $urls -}}
  {{- $rule := include "auditship.egressRule" . -}}
  {{- if $rule -}}{{- $items = append $items (fromYaml $rule) -}}{{- end -}}
{{- end -}}
{{- dict "items" ($items | uniq) | toYaml -}}
{{- end -}}

{{/* One rule for a URL; nothing for a text that is none, which `check` will refuse. */}}
{{- define "auditship.egressRule" -}}
{{- $form := "^(https?)://(?:[^/@]*@)?(\\[[^]]+\\]|[^/:?#]+)(?::([0-9]+))?.*$" -}}
{{- if regexMatch $form . -}}
  {{- $host := regexReplaceAll $form . "${2}" | trimPrefix "[" | trimSuffix "]" -}}
  {{- $scheme := regexReplaceAll $form . "${1}" -}}
  {{- $port := regexReplaceAll $form . "${3}" | default (ternary "443" "80" (eq $scheme "https")) | atoi -}}
  {{- $ports := list (dict "protocol" "TCP" "port" $port) -}}
  {{- $service := regexFind "^[a-z0-9-]+\\.[a-z0-9-]+\\.svc(\\..+)?$" $host -}}
  {{- if $service -}}
    {{- $namespace := index (splitList "." $host) 1 -}}
    {{- dict "to" (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $namespace)))) | toYaml -}}
  {{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host -}}
    {{- dict "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/32" $host)))) "ports" $ports | toYaml -}}
  {{- else if contains ":" $host -}}
    {{- dict "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/128" $host)))) "ports" $ports | toYaml -}}
  {{- else -}}
    {{- $any := list (dict "ipBlock" (dict "cidr" "0.0.0.0/0" "except" (list "169.254.0.0/16"))) (dict "ipBlock" (dict "cidr" "::/0" "except" (list "fe80::/10"))) -}}
    {{- dict "to" $any "ports" $ports | toYaml -}}
  {{- end -}}
{{- end -}}
{{- end -}}
