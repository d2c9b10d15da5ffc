-- Most frequent values of one field that begin with a text, among the requests of a window that pass a filter, at most so many of them.
-- for: dashboard
SELECT value, count() AS n_requests, uniqHLL12(src_ip) AS n_clients
FROM
(
    SELECT src_ip,
        multiIf(
            {dim:String} = 'ja4', toString(ja4),
            {dim:String} = 'host', toString(host),
            {dim:String} = 'country', toString(country),
            {dim:String} = 'asn', toString(asn),
            {dim:String} = 'method', toString(method),
            {dim:String} = 'status', toString(status),
            {dim:String} = 'http_version', toString(http_version),
            {dim:String} = 'ua_family', toString(ua_family),
            {dim:String} = 'match', toString(match),
            {dim:String} = 'user_agent', toString(user_agent),
            {dim:String} = 'src_ip', replaceOne(IPv6NumToString(src_ip), '::ffff:', ''),
            {dim:String} = 'path_template', toString(path_template),
            {dim:String} = 'match_reason', toString(match_reason),
            {dim:String} = 'contradictions', toString(contradictions),
            {dim:String} = 'sni', toString(sni),
            {dim:String} = 'alpn', toString(alpn),
            {dim:String} = 'tls_version', toString(tls_version),
            {dim:String} = 'h2_fp', toString(h2_fp),
            {dim:String} = 'source', toString(source),
            {dim:String} = 'node', toString(node),
            toString(path)) AS value
    FROM {logs}.http_logs
    WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
        AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
        AND host != 'ja4-probe.invalid' AND ({filter}) AND startsWith(value, {prefix:String})
    LIMIT {n:UInt32}
)
GROUP BY value
ORDER BY n_requests DESC, value
LIMIT {limit:UInt32}
