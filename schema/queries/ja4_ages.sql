-- When each JA4 of a window was first seen on this site.
-- for: detector
SELECT any_value AS ja4_text, toUnixTimestamp(min(first_ts)) AS first_s
FROM {processing}.first_seen
WHERE kind = 'ja4' AND any_value != ''
GROUP BY any_value
HAVING max(last_ts) >= {from:DateTime('UTC')} AND min(first_ts) < {to:DateTime('UTC')}
ORDER BY first_s, ja4_text
LIMIT {limit:UInt32}
