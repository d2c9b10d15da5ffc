-- First and last minute with a request.
-- for: dashboard
SELECT count() AS n, min(minute) AS first_minute, max(minute) AS last_minute
FROM {processing}.agg_traffic_1m
LIMIT 1
