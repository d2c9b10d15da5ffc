-- Most frequent values of every facet of a window of whole hours.
-- for: dashboard
-- Clients are counted for these only: to merge the counts of every value takes ten times as long as all the rest.
SELECT dim, value, sum(requests) AS n_requests, sum(errors) AS n_errors, uniqHLL12Merge(clients) AS n_clients
FROM {processing}.agg_facet_1h
WHERE dim != 'user_agent' AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} AND (dim, value) IN
(
    SELECT dim, value FROM {processing}.agg_facet_1h
    WHERE dim != 'user_agent' AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
    GROUP BY dim, value
    ORDER BY sum(requests) DESC
    LIMIT {limit:UInt32} BY dim
)
GROUP BY dim, value
ORDER BY dim, n_requests DESC
LIMIT {limit:UInt32} BY dim
LIMIT 1000
