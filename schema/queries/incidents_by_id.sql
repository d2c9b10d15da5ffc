-- Some incidents.
-- for: dashboard
SELECT incident_id AS id, title, status, severity, opened_at, last_alert_at
FROM {processing}.soc_incidents FINAL
WHERE deleted = 0 AND incident_id IN {incident_ids:Array(UUID)}
ORDER BY id
LIMIT 1000
