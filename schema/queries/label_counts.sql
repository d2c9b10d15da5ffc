-- Labels that hold of clients that were there in whole hours and pass a filter.
-- for: dashboard
SELECT label, count() AS n_clients
FROM
(
    SELECT cityHash64(src_ip, ja4, host) AS entity_id, label
    FROM {processing}.soc_labels FINAL
    WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now()) AND ({filter})
)
WHERE entity_id IN
(
    SELECT entity_id FROM {processing}.agg_host_ip_ja4_1h
    WHERE hour >= toStartOfHour({from:DateTime('UTC')}) AND hour < {to:DateTime('UTC')} AND src_ip IN (SELECT src_ip FROM {processing}.soc_labels)
)
GROUP BY label
ORDER BY label
LIMIT 10
