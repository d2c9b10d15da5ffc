-- Incidents with an alert since a time, with what is needed to go on with them.
-- for: detector
SELECT toString(incident_id) AS incident, toUnixTimestamp64Micro(opened_at) AS opened_us, toUnixTimestamp64Micro(last_alert_at) AS last_us, version,
    status, severity, title, group_kind, group_value, assignee, note
FROM {processing}.soc_incidents FINAL
WHERE deleted = 0 AND last_alert_at >= {from:DateTime('UTC')}
ORDER BY opened_us DESC
LIMIT {limit:UInt32}
