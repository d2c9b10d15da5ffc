-- The number of one client.
-- for: dashboard
SELECT cityHash64(toIPv6({src_ip:IPv6}), {ja4:String}, {host:String}) AS entity_id, toIPv6({src_ip:IPv6}) AS src_ip, {ja4:String} AS ja4, {host:String} AS host
LIMIT 1
