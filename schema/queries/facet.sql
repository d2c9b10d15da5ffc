-- Most frequent values of one facet that begin with a text: a facet's full list, completion in the search bar.
-- for: dashboard
SELECT value, sum(requests) AS n_requests, sum(errors) AS n_errors, sum(bytes) AS n_bytes, uniqHLL12Merge(clients) AS n_clients
FROM {processing}.agg_facet_1h
WHERE dim = {dim:String} AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} AND startsWith(value, {prefix:String})
GROUP BY value
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
