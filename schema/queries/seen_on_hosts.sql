-- When one value was first and last seen, by host.
-- for: dashboard
SELECT host AS on_host, min(first_ts) AS first_seen_at, max(last_ts) AS last_seen_at, sum(requests) AS n_requests
FROM {processing}.first_seen
WHERE kind = {kind:String} AND value_id = if({kind:String} = 'header_order', toUInt64OrZero({value:String}), cityHash64({value:String})) AND host != 'ja4-probe.invalid'
GROUP BY host
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
