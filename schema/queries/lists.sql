-- Entries of the lists of one kind.
-- for: dashboard
SELECT kind, value, version, action, reason, author, expires_at
FROM {processing}.soc_lists FINAL
WHERE kind = {kind:String} AND deleted = 0
ORDER BY value
LIMIT {limit:UInt32}
