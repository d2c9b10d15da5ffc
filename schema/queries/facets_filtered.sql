-- Most frequent values of every facet among the requests of a window that pass a filter, at most so many of them.
-- for: dashboard
SELECT dim, facet_value AS value, n_requests, n_errors, n_clients
FROM
(
    SELECT
        transform(grouping(ja4, host, country, asn, method, status, http_version, ua_family, match),
            [255, 383, 447, 479, 495, 503, 507, 509, 510],
            ['ja4', 'host', 'country', 'asn', 'method', 'status', 'http_version', 'ua_family', 'match'], '?') AS dim,
        multiIf(
            dim = 'ja4', toString(ja4),
            dim = 'host', toString(host),
            dim = 'country', toString(country),
            dim = 'asn', toString(asn),
            dim = 'method', toString(method),
            dim = 'status', toString(status),
            dim = 'http_version', toString(http_version),
            dim = 'ua_family', toString(ua_family),
            toString(match)) AS facet_value,
        count() AS n_requests, countIf(status >= 400) AS n_errors, uniqHLL12(src_ip) AS n_clients
    FROM
    (
        SELECT ja4, host, country, asn, method, status, http_version, ua_family, match, src_ip
        FROM {logs}.http_logs
        WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
            AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
            AND host != 'ja4-probe.invalid' AND ({filter})
        LIMIT {n:UInt32}
    )
    GROUP BY GROUPING SETS ((ja4), (host), (country), (asn), (method), (status), (http_version), (ua_family), (match))
)
ORDER BY dim, n_requests DESC, value
LIMIT {limit:UInt32} BY dim
LIMIT 1000
