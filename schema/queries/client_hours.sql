-- One client's hours: its week, host by host.
-- for: dashboard
SELECT hour, ja4, host, sum(requests) AS n_requests, bitCount(groupBitOr(minutes)) AS active_minutes, sum(s4xx) AS n_4xx, sum(s5xx) AS n_5xx,
    sum(bytes) AS n_bytes, sum(n_probe) AS n_probes, length(groupUniqArrayArray(user_agents)) AS n_user_agents, min(first_ts) AS first_seen_at, max(last_ts) AS last_seen_at
FROM {processing}.agg_host_ip_ja4_1h
WHERE src_ip = {src_ip:IPv6} AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
GROUP BY hour, ja4, host
ORDER BY hour, ja4, host
LIMIT 20000
