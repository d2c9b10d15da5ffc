-- Requests of a window that pass a filter, newest first, after the last one of the page before: sixteen columns, the rest on a click (request.sql).
-- for: dashboard
SELECT ts AS at, src_ip AS ip, src_port AS port, ja4 AS client_ja4, leftUTF8(host, 512) AS asked_host, leftUTF8(method, 64) AS verb, leftUTF8(path, 512) AS asked_path,
    leftUTF8(query, 512) AS asked_query, status AS answer, bytes_sent AS n_bytes, duration_us AS took_us, leftUTF8(user_agent, 512) AS agent, ua_family AS family,
    country AS from_country, asn AS from_asn, toString(match) AS found, boot AS id_boot, seq AS id_seq,
    arrayFilter(x -> x != '', [if(lengthUTF8(host) > 512, 'host', ''), if(lengthUTF8(method) > 64, 'method', ''), if(lengthUTF8(path) > 512, 'path', ''),
        if(lengthUTF8(query) > 512, 'query', ''), if(lengthUTF8(user_agent) > 512, 'user_agent', '')]) AS cut
FROM
(
    SELECT ts, src_ip, src_port, ja4, host, method, path, query, status, bytes_sent, duration_us, user_agent, ua_family, country, asn, match, boot, seq
    FROM {logs}.http_logs
    WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
        AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
        AND ts <= fromUnixTimestamp64Micro({before_us:Int64}, 'UTC')
        AND (ts < fromUnixTimestamp64Micro({before_us:Int64}, 'UTC') OR (boot, seq) < ({before_boot:UInt64}, {before_seq:UInt64}))
        AND host != 'ja4-probe.invalid' AND ({filter})
    ORDER BY ts DESC, boot DESC, seq DESC
    LIMIT {limit:UInt32}
)
ORDER BY at DESC, id_boot DESC, id_seq DESC
LIMIT {limit:UInt32}
