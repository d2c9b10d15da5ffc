-- What one client showed in a window.
-- for: dashboard
WITH
    (items) -> arrayMap(x -> (leftUTF8(toString(x.1), 2048), lengthUTF8(toString(x.1)) > 2048, x.2), items) AS shown
SELECT count() AS n_requests, uniqExact(path) AS n_paths, uniqIf(conn_uid, conn_uid != 0) AS n_connections,
    shown(approx_top_k(16, 1024)(user_agent)) AS user_agents,
    arrayMap(x -> (leftUTF8(x.1.1, 2048), lengthUTF8(x.1.1) > 2048, x.2, toString(x.1.2)), approx_top_k(16, 1024)((header_order, header_order_hash))) AS header_orders,
    shown(approx_top_k(16, 1024)(h2_fp)) AS h2_fps,
    shown(approx_top_k(16, 1024)(http_version)) AS http_versions,
    shown(approx_top_k(16, 1024)(method)) AS methods,
    shown(approx_top_k(16, 1024)(status)) AS statuses,
    shown(approx_top_k(16, 1024)(path_template)) AS paths,
    shown(approx_top_k(16, 1024)(match)) AS matches,
    shown(approx_top_k(16, 1024)(contradictions)) AS contradicting,
    anyIf(ja4_norm, ja4_norm != '') AS one_ja4_norm, anyIf(ja3, ja3 != '') AS one_ja3, anyIf(alpn, alpn != '') AS one_alpn, anyIf(tls_version, tls_version != '') AS one_tls_version,
    leftUTF8(anyIf(sni, sni != ''), 512) AS one_sni, groupBitOr(header_flags) AS flags_or, groupBitAnd(header_flags) AS flags_and,
    argMaxIf((tcp_ttl, tcp_window, tcp_mss, tcp_wscale, toString(tcp_options)), ts, tcp_ttl != 0) AS tcp
FROM {logs}.http_logs
WHERE _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
    AND ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
    AND src_ip = {src_ip:IPv6} AND ja4 = {ja4:String} AND host = {host:String} AND host != 'ja4-probe.invalid'
LIMIT 1
