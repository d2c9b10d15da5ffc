-- The newest label of the clients with some addresses, also those that were taken back or have expired.
-- for: dashboard
SELECT cityHash64(src_ip, ja4, host) AS id, src_ip, ja4, host, version, label, note, author, toUnixTimestamp(expires_at) AS expires_s, deleted, act_id,
    deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now()) AS holds
FROM {processing}.soc_labels FINAL
WHERE src_ip IN {ips:Array(IPv6)}
ORDER BY version DESC
LIMIT 100000
