-- What some clients did in the hours that a window touches, and what is known of their addresses.
-- for: dashboard
SELECT entity_id AS id, any(a.src_ip) AS ip, any(a.ja4) AS client_ja4, any(a.host) AS client_host, sum(a.requests) AS n_requests, sum(a.s4xx) + sum(a.s5xx) AS n_errors, sum(a.bytes) AS n_bytes,
    min(a.first_ts) AS first_seen_at, max(a.last_ts) AS last_seen_at, any(a.any_country) AS country, any(a.any_asn) AS asn, max(a.any_ua_family) AS ua_family,
    dictGetOrDefault('{processing}.dict_asn', 'as_name', ip, '') AS as_name, dictGetOrDefault('{processing}.dict_crawler_ranges', 'operator', ip, '') AS crawler
FROM {processing}.agg_host_ip_ja4_1h AS a
WHERE a.hour >= toStartOfHour({from:DateTime('UTC')}) AND a.hour < {to:DateTime('UTC')} AND a.src_ip IN {ips:Array(IPv6)} AND entity_id IN {ids:Array(UInt64)}
GROUP BY entity_id
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
