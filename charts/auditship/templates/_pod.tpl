{{/* Containers, mounts and volumes, the same in every mode. */}}

{{/* What a volume's name begins with: the kube-apiserver's Pod has volumes of its own. */}}
{{- define "auditship.prefix" -}}
{{- if eq .Values.mode "sidecar" -}}auditship-{{- end -}}
{{- end -}}

{{- define "auditship.securityContext" -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
# The log belongs to root, mode 0600: root needs no capability to read what is its own.
runAsUser: 0
runAsGroup: 0
runAsNonRoot: false
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- if not $s.rootOwned }}
  # The log belongs to another user.
  add: [DAC_READ_SEARCH]
  {{- end }}
seccompProfile:
  type: RuntimeDefault
{{- with $s.seLinuxOptions }}
seLinuxOptions: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "auditship.env" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What `check` needs, and nothing of the host's but in the modes without Secrets. */}}
{{- define "auditship.configMounts" -}}
{{- $prefix := include "auditship.prefix" . -}}
{{- if ne .Values.mode "daemonset" -}}
- name: {{ $prefix }}config
  mountPath: /etc/auditship
  readOnly: true
{{- else -}}
- name: config
  mountPath: /etc/auditship/config
  readOnly: true
{{- if .Values.existingConfig.secret }}
- name: existing
  mountPath: /etc/auditship/existing
  readOnly: true
{{- end }}
{{- range $name, $_ := .Values.files }}
- name: files-{{ $name }}
  mountPath: /etc/auditship/files/{{ $name }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "auditship.mounts" -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
{{- $prefix := include "auditship.prefix" . -}}
{{ include "auditship.configMounts" . }}
{{- if .Values.key.secret }}
- name: key
  mountPath: /etc/auditship/key
  readOnly: true
{{- end }}
{{- range $at, $directory := $s.directories }}
# The directory, not the file: a mounted file stays the old one after a rotation.
- name: {{ $prefix }}audit-{{ $at }}
  mountPath: {{ $directory }}
  readOnly: true
{{- end }}
- name: {{ $prefix }}state
  mountPath: {{ .Values.state.hostPath }}
{{- range $at, $archive := (include "auditship.ownArchives" . | fromYaml).items }}
- name: {{ $prefix }}archive-{{ $at }}
  mountPath: {{ $archive.path }}
{{- end }}
{{- end -}}

{{/* Those of the `dir` outputs that need a volume of their own. */}}
{{- define "auditship.ownArchives" -}}
{{- $root := . -}}
{{- $items := list -}}
{{- range $archive := (include "auditship.archives" . | fromYaml).items -}}
  {{- $covered := include "auditship.isIn" (list $archive.path $root.Values.state.hostPath) -}}
  {{- range $root.Values.extraVolumeMounts -}}
    {{- $covered = printf "%s%s" $covered (include "auditship.isIn" (list $archive.path .mountPath)) -}}
  {{- end -}}
  {{- if not $covered -}}{{- $items = append $items $archive -}}{{- end -}}
{{- end -}}
{{- dict "items" $items | toYaml -}}
{{- end -}}

{{/* Volumes of the configuration; `name` is the object that has it. Takes a list of the root and that name. */}}
{{- define "auditship.configVolumes" -}}
{{- $root := index . 0 -}}
{{- $v := $root.Values -}}
{{- if ne $v.mode "daemonset" -}}
- name: {{ include "auditship.prefix" $root }}config
  hostPath:
    path: {{ (include "auditship.settings" $root | fromYaml).nodeDirectory }}
    type: {{ include "auditship.directoryType" $root }}
{{- else -}}
- name: config
  {{- if eq (include "auditship.configKind" $root) "Secret" }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 256 # 0400
  {{- else }}
  configMap:
    name: {{ index . 1 }}
  {{- end }}
{{- if $v.existingConfig.secret }}
- name: existing
  secret:
    secretName: {{ $v.existingConfig.secret }}
    defaultMode: 256 # 0400
{{- end }}
{{- range $name, $file := $v.files }}
- name: files-{{ $name }}
  {{- if $file.secret }}
  secret:
    secretName: {{ $file.secret }}
    defaultMode: 256 # 0400
  {{- else }}
  configMap:
    name: {{ $file.configMap }}
  {{- end }}
{{- end }}
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What must be there already. Beside the API server nothing must: its Pod would wait for a directory that is missing. */}}
{{- define "auditship.directoryType" -}}
{{- if eq .Values.mode "sidecar" -}}DirectoryOrCreate{{- else -}}Directory{{- end -}}
{{- end -}}

{{- define "auditship.volumes" -}}
{{- $root := . -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
{{- $prefix := include "auditship.prefix" . -}}
{{ include "auditship.configVolumes" (list . (include "auditship.configName" .)) }}
{{- if .Values.key.secret }}
- name: key
  secret:
    secretName: {{ .Values.key.secret }}
    defaultMode: 256 # 0400
    items:
      - key: {{ .Values.key.entry }}
        path: key
{{- end }}
{{- range $at, $directory := $s.directories }}
- name: {{ $prefix }}audit-{{ $at }}
  hostPath:
    path: {{ $directory }}
    type: {{ include "auditship.directoryType" $root }}
{{- end }}
- name: {{ $prefix }}state
  hostPath:
    path: {{ .Values.state.hostPath }}
    type: DirectoryOrCreate
{{- range $at, $archive := (include "auditship.ownArchives" . | fromYaml).items }}
- name: {{ $prefix }}archive-{{ $at }}
  hostPath:
    path: {{ $archive.path }}
    type: DirectoryOrCreate
{{- end }}
{{- end -}}

{{/* Looks at the configuration before the agent starts. */}}
{{- define "auditship.checkContainer" -}}
name: check
image: {{ include "auditship.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - check
  {{- include "auditship.configArguments" . | nindent 2 }}
env: {{- include "auditship.env" . | nindent 2 }}
securityContext: {{- include "auditship.securityContext" . | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
volumeMounts: {{- include "auditship.configMounts" . | nindent 2 }}
{{- end -}}

{{- define "auditship.agentContainer" -}}
{{- $s := include "auditship.settings" . | fromYaml -}}
name: auditship
image: {{ include "auditship.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - run
  - --log-json
  {{- include "auditship.configArguments" . | nindent 2 }}
env: {{- include "auditship.env" . | nindent 2 }}
ports:
  - name: {{ ternary "auditship" "metrics" (eq .Values.mode "sidecar") }}
    containerPort: {{ .Values.metrics.port }}
    protocol: TCP
livenessProbe:
  httpGet:
    {{- if eq $s.listen "127.0.0.1" }}
    host: 127.0.0.1
    {{- end }}
    path: /healthz
    port: {{ .Values.metrics.port }}
  initialDelaySeconds: 10
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
{{- if ne .Values.mode "sidecar" }}
# Not ready while an output is held or retrying: a rollout stops there.
readinessProbe:
  httpGet:
    {{- if eq $s.listen "127.0.0.1" }}
    host: 127.0.0.1
    {{- end }}
    path: /readyz
    port: {{ .Values.metrics.port }}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}
securityContext: {{- include "auditship.securityContext" . | nindent 2 }}
resources: {{- toYaml .Values.resources | nindent 2 }}
volumeMounts: {{- include "auditship.mounts" . | nindent 2 }}
{{- end -}}
