-- JA4s, user agents and header orders that were first seen in a window, on hosts that pass a filter.
-- for: dashboard
SELECT kind AS new_kind, host AS on_host, leftUTF8(any(any_value), 512) AS first_value, min(first_ts) AS first_seen_at, sum(requests) AS n_requests
FROM {processing}.first_seen
WHERE kind IN ('ja4', 'user_agent', 'header_order') AND ({filter})
GROUP BY kind, host, value_id
HAVING first_seen_at >= {from:DateTime('UTC')} AND first_seen_at < {to:DateTime('UTC')} AND first_value != ''
ORDER BY n_requests DESC
LIMIT {limit:UInt32} BY new_kind
LIMIT 1000
