-- What is usual for one host: medians by hour of the week over five weeks.
-- for: detector, dashboard
SELECT hour_of_week, quantileExact(0.5)(hour_requests) AS requests_p50, quantileExact(0.5)(hour_errors) AS errors_p50, quantileExact(0.5)(hour_bytes) AS bytes_p50, count() AS n_weeks
FROM
(
    SELECT hour_of_week, hour, sum(n_requests) AS hour_requests, sum(n_errors) AS hour_errors, sum(n_bytes) AS hour_bytes
    FROM {processing}.agg_baseline_hour_of_week
    WHERE host = {host:String} AND hour >= now() - INTERVAL 35 DAY
    GROUP BY hour_of_week, hour
)
GROUP BY hour_of_week
ORDER BY hour_of_week
LIMIT 168
