-- Days on which one address was flagged.
-- for: dashboard, detector
SELECT src_ip, days_flagged, entities_flagged, first_flagged_at, last_flagged_at, score_max
FROM {processing}.view_ip_recurrence
WHERE src_ip = {src_ip:IPv6}
LIMIT 1
