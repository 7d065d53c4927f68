{{/* The objects equal those of deploy/k8s, where the comments are. */}}

{{- define "hrm.part" -}}
app.kubernetes.io/part-of: hrm-impala
{{- end }}

{{/* The config map's name with kustomize's hash of its content, so that a changed file restarts the learner. */}}
{{- define "hrm.run" -}}
{{ .Values.run | default (.Files.Get "files/run.toml") }}
{{- end }}

{{- define "hrm.config" -}}
{{- $content := dict "kind" "ConfigMap" "name" "" "data" (dict "run.toml" (include "hrm.run" .)) }}
{{- $hash := $content | toJson | sha256sum | trunc 10 }}
{{- $hash = $hash | replace "0" "g" | replace "1" "h" | replace "3" "k" | replace "a" "m" | replace "e" "t" }}
{{- printf "hrm-learner-%s" $hash }}
{{- end }}

{{- define "hrm.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "hrm.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "hrm.probes" -}}
startupProbe:
  grpc:
    port: 50052
  periodSeconds: 2
  failureThreshold: {{ .starts }}
livenessProbe:
  grpc:
    port: 50052
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  grpc:
    port: 50052
    service: {{ .ready }}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* Where a pod may run: `part` of the values, with `more` tolerations. */}}
{{- define "hrm.nodes" -}}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .part.tolerations .more }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Taints of spot nodes, as a list of YAML. */}}
{{- define "hrm.spot.tolerations" -}}
{{- range $key, $value := .Values.spot.labels }}
- key: {{ $key }}
  operator: Equal
  value: {{ $value | quote }}
  effect: NoSchedule
{{- end }}
{{- end }}

{{/* The classes belong to the cluster: the release's namespace is in their names. */}}
{{- define "hrm.spot.actor" -}}
priorityClassName: {{ .Release.Namespace }}-actor
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- range $key, $value := .Values.spot.labels }}
      - weight: 100
        preference:
          matchExpressions:
            - key: {{ $key }}
              operator: In
              values: [{{ $value | quote }}]
      {{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app.kubernetes.io/name: hrm-actor
  {{- end }}
{{- end }}

{{- define "hrm.spot.learner" -}}
priorityClassName: {{ .Release.Namespace }}-learner
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            {{- range $key, $value := .Values.spot.labels }}
            - key: {{ $key }}
              operator: NotIn
              values: [{{ $value | quote }}]
            {{- end }}
{{- end }}

{{- define "hrm.learner.pod" -}}
{{- $job := ne .Values.mode "stay" }}
metadata:
  labels:
    app.kubernetes.io/name: hrm-learner
    {{- include "hrm.part" . | nindent 4 }}
  {{- if .Values.spot.enabled }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    karpenter.sh/do-not-disrupt: "true"
  {{- end }}
spec:
  serviceAccountName: hrm-learner
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "hrm.nodes" (dict "part" .Values.learner "more" list) | nindent 2 }}
  {{- if .Values.spot.enabled }}
  {{- include "hrm.spot.learner" . | nindent 2 }}
  {{- end }}
  {{- if $job }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: 30
  securityContext:
    {{- include "hrm.user" . | nindent 4 }}
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
  containers:
    - name: learner
      image: {{ .Values.image.registry }}/hrm-impala/{{ .Values.learner.image }}:{{ .Values.image.tag | default .Chart.AppVersion }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      args:
        - serve
        - --config
        - /etc/hrm/run.toml
        - --resume
        {{- if $job }}
        - --require-complete
        {{- end }}
      {{- if or .Values.tls $job }}
      env:
        {{- if $job }}
        - name: HRM__LEARNER__STAY_WHEN_COMPLETE
          value: "false"
        {{- end }}
        {{- if .Values.tls }}
        - name: HRM__LEARNER__INSECURE
          value: "false"
        - name: HRM__LEARNER__TLS_CERTIFICATE
          value: /etc/hrm-tls/learner.pem
        - name: HRM__LEARNER__TLS_PRIVATE_KEY
          value: /etc/hrm-tls/learner-key.pem
        - name: HRM__LEARNER__TLS_CLIENT_CA
          value: /etc/hrm-tls/ca.pem
        - name: HRM__LEARNER__ACTOR_TOKENS_FILE
          value: /etc/hrm-tls/actor-tokens
        - name: HRM__LEARNER__VIEWER_TOKENS_FILE
          value: /etc/hrm-tls/viewer-tokens
        {{- end }}
      {{- end }}
      envFrom:
        - secretRef:
            name: hrm-learner
            optional: true
      ports:
        - name: grpc
          containerPort: 50051
        - name: metrics
          containerPort: 9100
        - name: health
          containerPort: 50052
      resources:
        {{- toYaml .Values.learner.resources | nindent 8 }}
      {{- include "hrm.probes" (dict "starts" 60 "ready" "hrm.v1.Learner") | nindent 6 }}
      {{- include "hrm.security" . | nindent 6 }}
      volumeMounts:
        - name: config
          mountPath: /etc/hrm
          readOnly: true
        - name: runs
          mountPath: /var/lib/hrm/runs
        {{- if .Values.tls }}
        - name: tls
          mountPath: /etc/hrm-tls
          readOnly: true
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "hrm.config" . }}
    {{- if $job }}
    - name: runs
      persistentVolumeClaim:
        claimName: runs-hrm-learner-0
    {{- end }}
    {{- if .Values.tls }}
    - name: tls
      secret:
        secretName: hrm-learner-tls
        defaultMode: 0440
    {{- end }}
{{- end }}

{{- define "hrm.actor.pod" -}}
metadata:
  labels:
    app.kubernetes.io/name: hrm-actor
    {{- include "hrm.part" . | nindent 4 }}
spec:
  serviceAccountName: hrm-actor
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- $tolerations := ternary (include "hrm.spot.tolerations" . | fromYamlArray) list .Values.spot.enabled }}
  {{- include "hrm.nodes" (dict "part" .Values.actor "more" $tolerations) | nindent 2 }}
  {{- if .Values.spot.enabled }}
  {{- include "hrm.spot.actor" . | nindent 2 }}
  {{- end }}
  {{- if ne .Values.mode "stay" }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: 15
  securityContext:
    {{- include "hrm.user" . | nindent 4 }}
    {{- if .Values.tls }}
    fsGroup: 65532
    {{- end }}
  containers:
    - name: actor
      image: {{ .Values.image.registry }}/hrm-impala/actor:{{ .Values.image.tag | default .Chart.AppVersion }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      args:
        - run
        {{- if ne .Values.mode "stay" }}
        - --require-complete
        {{- end }}
      env:
        - name: HRM__ACTOR__LEARNER
          value: {{ ternary "https" "http" .Values.tls }}://hrm-learner:50051
        {{- if .Values.tls }}
        - name: HRM__ACTOR__TLS_CA
          value: /etc/hrm-tls/ca.pem
        - name: HRM__ACTOR__TLS_CERTIFICATE
          value: /etc/hrm-tls/actor.pem
        - name: HRM__ACTOR__TLS_PRIVATE_KEY
          value: /etc/hrm-tls/actor-key.pem
        - name: HRM__ACTOR__TOKEN_FILE
          value: /etc/hrm-tls/actor-tokens
        {{- end }}
      envFrom:
        - secretRef:
            name: hrm-actor
            optional: true
      ports:
        - name: metrics
          containerPort: 9101
        - name: health
          containerPort: 50052
      resources:
        {{- toYaml .Values.actor.resources | nindent 8 }}
      {{- include "hrm.probes" (dict "starts" 30 "ready" "joined") | nindent 6 }}
      {{- include "hrm.security" . | nindent 6 }}
      {{- if .Values.tls }}
      volumeMounts:
        - name: tls
          mountPath: /etc/hrm-tls
          readOnly: true
      {{- end }}
  {{- if .Values.tls }}
  volumes:
    - name: tls
      secret:
        secretName: hrm-actor-tls
        defaultMode: 0440
  {{- end }}
{{- end }}

{{- define "hrm.failures" -}}
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: {{ . }}
        operator: In
        values: [2, 64]
{{- end }}

{{- define "hrm.learner.job" -}}
completionMode: NonIndexed
completions: 1
parallelism: 1
podReplacementPolicy: Failed
backoffLimit: 6
{{ include "hrm.failures" "learner" }}
template:
  {{- include "hrm.learner.pod" . | nindent 2 }}
{{- end }}

{{- define "hrm.actor.job" -}}
completionMode: NonIndexed
parallelism: {{ .Values.actor.replicas }}
backoffLimit: 100
{{ include "hrm.failures" "actor" }}
template:
  {{- include "hrm.actor.pod" . | nindent 2 }}
{{- end }}

{{- define "hrm.claim" -}}
accessModes: [ReadWriteOnce]
resources:
  requests:
    storage: {{ .Values.learner.storage }}
{{- end }}
