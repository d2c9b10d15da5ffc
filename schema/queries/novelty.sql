-- Values that were first seen in a window.
-- for: dashboard, detector
SELECT kind, host, value_id, any(any_value) AS first_value, min(first_ts) AS first_seen_at, max(last_ts) AS last_seen_at, sum(requests) AS n_requests
FROM {processing}.first_seen
WHERE kind = {kind:String}
GROUP BY kind, host, value_id
HAVING first_seen_at >= {from:DateTime('UTC')} AND first_seen_at < {to:DateTime('UTC')}
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
