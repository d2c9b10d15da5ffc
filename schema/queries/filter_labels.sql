-- Clients whose label passes a filter: a part of other queries.
-- for: dashboard
SELECT cityHash64(src_ip, ja4, host)
FROM {processing}.soc_labels FINAL
WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now()) AND ({filter})
LIMIT 1000000
