-- Incidents by status, newest first.
-- for: dashboard
SELECT incident_id, version, opened_at, last_alert_at, status, severity, title, group_kind, group_value, assignee, note
FROM {processing}.soc_incidents FINAL
WHERE deleted = 0 AND status = {status:String}
ORDER BY last_alert_at DESC
LIMIT {limit:UInt32}
