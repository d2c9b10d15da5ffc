-- The header names behind the hash of a header order.
-- for: dashboard
SELECT leftUTF8(any_value, 2048) AS names
FROM {processing}.first_seen
WHERE kind = 'header_order' AND value_id = {value_id:UInt64}
LIMIT 1
