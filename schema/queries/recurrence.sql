-- Addresses flagged on most days.
-- for: dashboard
SELECT src_ip, days_flagged, entities_flagged, first_flagged_at, last_flagged_at, score_max
FROM {processing}.view_ip_recurrence
ORDER BY days_flagged DESC, score_max DESC
LIMIT {limit:UInt32}
