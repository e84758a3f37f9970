{{- define "moat.labels" -}}
app.kubernetes.io/name: moat
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "moat.selector" -}}
app.kubernetes.io/name: moat
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "moat.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Behind another CNI, the network between nodes is that one's. */}}
{{- define "moat.routes" -}}
{{ if .Values.cni.behind }}none{{ else }}{{ .Values.network.routes }}{{ end }}
{{- end }}

{{/* Arguments of all that runs on nodes, and those of who leaves or removes traces there. */}}
{{- define "moat.places" -}}
- --node=$(NODE_NAME)
- --cni-plugin-folder=/host{{ .Values.cni.binFolder }}
- --cni-config=/host{{ .Values.cni.configFolder }}/{{ .Values.cni.configFile }}
{{- end }}

{{- define "moat.traces" -}}
- --instance={{ .Values.instance }}
- --cni-folder=/run/moat/{{ .Values.instance }}/cni
{{- end }}

{{/*
Two capabilities of root's forty; docs/install.md says what fails without each. SYS_ADMIN is for setns(2), which enters pods' network
namespaces, and nothing less does; where it is, the kernel asks for neither BPF nor PERFMON.
*/}}
{{- define "moat.securityContext" -}}
runAsUser: 0
privileged: false
allowPrivilegeEscalation: true
readOnlyRootFilesystem: true
seccompProfile:
  type: RuntimeDefault
capabilities:
  drop: [ALL]
  add: [NET_ADMIN, SYS_ADMIN{{ if and .Values.adoptRunningPods (eq .Values.run "agent") }}, SYS_PTRACE{{ end }}]
{{- end }}

{{/* The kubelet asks on the node itself, where the agent's network is. */}}
{{- define "moat.probe" -}}
httpGet:
  host: 127.0.0.1
  port: {{ (index . 0).Values.healthPort }}
  path: {{ index . 1 }}
timeoutSeconds: 5
{{- end }}

{{- define "moat.mounts" -}}
- name: bpf
  mountPath: /sys/fs/bpf
- name: run
  mountPath: /run/moat
- name: netns
  mountPath: /run/netns
  mountPropagation: HostToContainer
- name: sysctl
  mountPath: /host/proc/sys/net
- name: cni-bin
  mountPath: /host{{ .Values.cni.binFolder }}
- name: cni-config
  mountPath: /host{{ .Values.cni.configFolder }}
{{- if eq .Values.services "moat" }}
- name: cgroup
  mountPath: /host/sys/fs/cgroup
  readOnly: true
{{- end }}
{{- end }}
