{{/* Names, labels and rules that more than one template uses. */}}

{{- define "ja4-platform.selector" -}}
app.kubernetes.io/name: ja4-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ja4-platform.labels" -}}
{{ include "ja4-platform.selector" . }}
app.kubernetes.io/part-of: ja4-platform
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ja4-platform.image" -}}
{{- $registry := default .Values.imageRegistry .Values.image.registry -}}
{{- if .Values.image.digest -}}
{{ $registry }}/ja4-operator@{{ .Values.image.digest }}
{{- else -}}
{{ $registry }}/ja4-operator:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* The port of the admin address, whatever stands before its last colon. */}}
{{- define "ja4-platform.adminPort" -}}
{{- splitList ":" .Values.admin | last -}}
{{- end }}

{{/* True for `always`, and for `auto` where the cluster has the kind. Called with (list root mode kind). */}}
{{- define "ja4-platform.wanted" -}}
{{- $root := index . 0 }}{{ $mode := index . 1 }}{{ $kind := index . 2 -}}
{{- if or (eq $mode "always") (and (eq $mode "auto") ($root.Capabilities.APIVersions.Has $kind)) -}}true{{- end -}}
{{- end }}

{{/* The restricted profile of pod security, of a pod and of its container. */}}
{{- define "ja4-platform.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ja4-platform.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
What the operator may do where pipelines are. No wildcard, no nodes, no namespaces, no Secrets: those are granted for each namespace, by
the chart ja4-pipeline or by the Roles of the namespaced mode. `update` is nowhere: everything is a server-side apply, which is a patch,
and needs create as well when the object is not there yet.
*/}}
{{- define "ja4-platform.rules" -}}
# Which pipelines there are, and what they ask for. The operator never changes a spec.
- apiGroups: [ja4platform.io]
  resources: [ja4pipelines]
  verbs: [list, watch]
# How they do: conditions and the rest of the status.
- apiGroups: [ja4platform.io]
  resources: [ja4pipelines/status]
  verbs: [patch]
# Apply, prune and repair: sensors, correlator and dashboard, the embedded store; and the sets of objects that a rollback goes back to.
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets, controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
# Detectors on schedule; migrations and the first cycle of a detector.
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch, create, patch, delete]
# Addresses, configuration and volumes of the parts.
- apiGroups: [""]
  resources: [services, configmaps, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# Observe: why a pod waits, its last words, and the nodes that sensors are for, which are in their affinity.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Tell of transitions. Patch: the same event again is counted, not made anew.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Who may talk to whom; how people reach the dashboard (spec.dashboard.ingress).
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
# How people reach the dashboard (spec.dashboard.httpRoute).
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
# Metrics and alerts of a pipeline (spec.monitoring).
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
