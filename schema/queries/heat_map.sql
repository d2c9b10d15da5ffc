-- Requests by hour for the most frequent JA4s.
-- for: dashboard
SELECT value AS ja4, hour, sum(requests) AS n_requests, sum(errors) AS n_errors
FROM {processing}.agg_facet_1h
WHERE dim = 'ja4' AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} AND value IN
(
    SELECT value FROM {processing}.agg_facet_1h
    WHERE dim = 'ja4' AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
    GROUP BY value ORDER BY sum(requests) DESC LIMIT {limit:UInt32}
)
GROUP BY value, hour
ORDER BY value, hour
LIMIT 20000
