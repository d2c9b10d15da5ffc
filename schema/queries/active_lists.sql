-- Entries of all lists that hold.
-- for: detector
SELECT kind, value, action, reason, author, version
FROM {processing}.soc_lists FINAL
WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now())
ORDER BY kind, value
LIMIT {limit:UInt32}
