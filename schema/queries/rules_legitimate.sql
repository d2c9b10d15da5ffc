-- Clients labelled legitimate or verified crawler with a request in a window that passes a filter.
-- for: dashboard
SELECT src_ip AS ip, ja4 AS client_ja4, host AS client_host, count() AS n_requests
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND host != 'ja4-probe.invalid' AND ({filter})
    AND (src_ip, ja4, host) IN
    (
        SELECT src_ip, ja4, host FROM {processing}.soc_labels FINAL
        WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now()) AND label IN ('legitimate', 'verified_crawler')
    )
GROUP BY src_ip, ja4, host
ORDER BY n_requests DESC
LIMIT 10000
