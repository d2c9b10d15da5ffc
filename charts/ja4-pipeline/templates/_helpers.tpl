{{/* Names and labels that more than one template uses. */}}

{{- define "ja4-pipeline.name" -}}
{{- $name := default .Release.Name .Values.name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %s cannot be used: at most 30 characters, a to z, digits and -, beginning with a letter; set name, or give the release another" $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{- define "ja4-pipeline.labels" -}}
app.kubernetes.io/name: ja4-pipeline
app.kubernetes.io/instance: {{ include "ja4-pipeline.name" . }}
app.kubernetes.io/part-of: ja4-platform
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
