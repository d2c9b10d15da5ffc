-- Header orders of one host in a window of whole hours, rarest last.
-- for: detector, dashboard
SELECT header_order_hash, any(any_header_order) AS header_order, groupUniqArray(10)(ua_family) AS ua_families, groupUniqArray(10)(h2_fp) AS h2_fps, uniqExact(ja4) AS n_ja4,
    sum(requests) AS n_requests, sum(errors) AS n_errors, uniqHLL12Merge(clients) AS n_clients
FROM {processing}.agg_header_fingerprint_1h
WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')} AND host = {host:String}
GROUP BY header_order_hash
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
