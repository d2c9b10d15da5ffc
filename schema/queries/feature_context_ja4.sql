-- What a site knows of each JA4: how many clients, requests and hosts, since when.
-- for: detector
SELECT ja4, n_clients, n_requests, n_hosts, f.first_ts AS ja4_first_seen_at, dictGetOrDefault('{processing}.dict_identities', 'client', tuple(ja4), '') AS identity
FROM
(
    SELECT ja4, uniq(src_ip) AS n_clients, sum(requests) AS n_requests, uniqExact(host) AS n_hosts
    FROM {processing}.agg_host_ip_ja4_1h
    WHERE hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
    GROUP BY ja4
) AS w
LEFT JOIN
(
    SELECT any_value AS first_value, min(first_ts) AS first_ts FROM {processing}.first_seen WHERE kind = 'ja4' GROUP BY any_value
) AS f ON f.first_value = w.ja4
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
