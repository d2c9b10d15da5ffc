-- Labels that hold, newest first.
-- for: dashboard, detector
SELECT src_ip, ja4, host, version, label, reason, note, author, expires_at, model_name, model_version, feature_set, features
FROM {processing}.soc_labels FINAL
WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now())
ORDER BY version DESC
LIMIT {limit:UInt32}
