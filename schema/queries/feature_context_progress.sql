-- How much traffic there is to learn from: minutes with requests, first and last of them.
-- for: detector
SELECT uniqExact(minute) AS n_minutes, toUnixTimestamp(min(minute)) AS first_s, toUnixTimestamp(max(minute)) AS last_s
FROM {processing}.agg_traffic_1m
WHERE minute >= {from:DateTime('UTC')} AND minute < {to:DateTime('UTC')} AND requests > 0
LIMIT 1
