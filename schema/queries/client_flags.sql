-- The current detection of each model of some clients.
-- for: dashboard
SELECT a.entity_id AS id, a.model_name AS model, a.threshold AS limit_score, a.severity AS how_bad, a.detected_at AS at, a.first_detected_at AS since, a.incident_id AS incident
FROM {processing}.ml_detected_anomalies AS a
WHERE a.src_ip IN {ips:Array(IPv6)} AND id IN {ids:Array(UInt64)} AND a.detected_at >= {from:DateTime('UTC')} AND a.detected_at < {to:DateTime('UTC')} + INTERVAL 1 HOUR
ORDER BY a.version DESC
LIMIT 1 BY id, model
LIMIT 20000
