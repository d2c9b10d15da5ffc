-- Clients whose label was set, taken back or has run out since a time, microseconds since the epoch.
-- for: detector
SELECT src_ip, ja4, host
FROM {processing}.soc_labels FINAL
WHERE version >= {since_us:UInt64}
    OR (expires_at != toDateTime(0) AND expires_at <= now() AND expires_at >= toDateTime(intDiv({since_us:UInt64}, 1000000)))
ORDER BY version DESC
LIMIT {limit:UInt32}
