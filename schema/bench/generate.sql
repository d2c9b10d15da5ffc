-- Synthetic requests for measurements: {rows} requests, numbered from {first}, of {total} spread over {days} days that end at
-- {end}. Five requests make a session of one client; one session in fifty belongs to one of a hundred heavy clients.
-- Half of the sessions have a JA3 of their own, as browsers that shuffle their extensions do.
INSERT INTO {logs}.http_logs
(
    ts, recv_ts, ts_kind, ts_resolution_ns, source, node, boot, seq, id_kind, sample_rate, tier, direction, transport,
    src_ip, src_port, peer_ip, dst_ip, dst_port, effective_source, country, asn,
    method, scheme, host, path, path_template, path_flags, path_depth, query, query_params, uri_bytes, http_version,
    user_agent, ua_family, referer, accept_language, headers_form, header_order, header_order_hash, header_count, header_flags, headers, session_hash,
    status, bytes_sent, duration_us, conn_id, req_index, conn_req_index, stream_id,
    match, delta_us, conn_uid, confirmed, ja4, ja4_norm, ja3, sni, alpn, tls_version, tls_cipher, tls_flags, hello_bytes, h2_fp,
    tcp_ttl, tcp_window, tcp_mss, tcp_wscale, tcp_options, syn_to_hello_us
)
WITH
    number AS i,
    intDiv(i, 5) AS s,
    i % 5 AS k,
    cityHash64(s, 1) AS h1,
    cityHash64(i, 2) AS h2,
    if(h1 % 50 = 0, toUInt32(h1 % 100), toUInt32(100 + h1 % 300000)) AS client,
    cityHash64(client, 3) AS c1,
    toUInt32(pow((c1 % 1000003) / 1000003, 3) * 300) AS ja4_no,
    toUInt32(pow((cityHash64(client, 4) % 1000003) / 1000003, 3) * 2000) AS ua_no,
    toUInt32(pow((h2 % 1000003) / 1000003, 2) * 5000) AS path_no,
    toUInt32(pow((h1 % 1009) / 1009, 2) * 20) AS host_no,
    toDateTime64({end:DateTime('UTC')}, 6, 'UTC') - toIntervalMicrosecond(intDiv(({total:UInt64} - i) * {days:UInt32} * 86400000000, {total:UInt64}) - k * (200000 + h1 % 3000000) - h2 % 50000) AS start,
    toUInt32(1000 + h2 % 90000) AS took,
    h1 % 2 = 0 AS shuffles
SELECT
    start, start + toIntervalMicrosecond(took + 500), 'start', 1000, 'demo', concat('node-', toString(h1 % 3)), 81985529216486895 + h1 % 3, i, 'producer', 1, 'edge', 'ingress', 'tcp',
    if(c1 % 5 = 0, toIPv6(concat('2001:db8:', lower(hex(toUInt16(c1 % 4096))), ':', lower(hex(toUInt16(bitShiftRight(c1, 20) % 65536))), '::', lower(hex(toUInt16(client % 60000))))), toIPv6(IPv4NumToString(toUInt32(167772160 + client * 7)))) AS ip,
    toUInt16(1024 + h1 % 60000), ip, toIPv6('10.255.0.1'), 443, 'wire', ['US','DE','FR','CN','BR','IN','GB','NL'][1 + c1 % 8], toUInt32(1000 + c1 % 400),
    ['GET','GET','GET','GET','GET','GET','GET','POST','HEAD','OPTIONS'][1 + h2 % 10], 'https', concat('shop', toString(host_no), '.example'),
    if(path_no % 3 = 0, concat('/static/app-', toString(path_no), '.js'), concat('/catalog/', toString(path_no % 40), '/item/', toString(path_no))),
    if(path_no % 3 = 0, '/static/*', '/catalog/*/item/*'), if(path_no % 3 = 0, 1, if(path_no % 97 = 0, 8, 0)), if(path_no % 3 = 0, 2, 4),
    if(h2 % 5 = 0, concat('page=', toString(h2 % 40), '&q=term', toString(h2 % 700)), ''), if(h2 % 5 = 0, 2, 0), 30, if(c1 % 3 = 0, '1.1', '2'),
    concat('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/', toString(100 + ua_no % 50), '.0.', toString(ua_no), '.0 Safari/537.36'), ['Chrome','Firefox','Safari','curl','python-requests','Go-http-client'][1 + ua_no % 6],
    if(k = 0, '', concat('https://shop', toString(host_no), '.example/catalog/', toString(path_no % 40))), ['en-US,en;q=0.9','de-DE,de;q=0.9','','fr-FR,fr;q=0.8'][1 + c1 % 4],
    'ordered', concat('host,user-agent,accept,accept-language,accept-encoding,x-', toString(ua_no % 60)), cityHash64(ua_no % 60), 9, if(k = 0, 239, 255),
    map('accept', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'accept-encoding', 'gzip, deflate, br, zstd', 'sec-ch-ua', concat('"Chromium";v="', toString(100 + ua_no % 50), '"'), 'sec-fetch-site', 'same-origin', 'sec-fetch-mode', 'navigate', 'sec-fetch-dest', 'document'),
    cityHash64(client, host_no, 5),
    [200,200,200,200,200,200,200,304,302,404,403,500][1 + h2 % 12], 200 + h2 % 60000, took, s, k, k, if(c1 % 3 = 0, 0, k * 2 + 1),
    if(h1 % 2000 = 0, 'none', 'exact'), 3000 + k * 400000 + h2 % 1000, bitOr(bitShiftLeft(toUInt128(h1 % 3 + 7), 64), toUInt128(s)), 'followed',
    concat('t13d', toString(1500 + ja4_no % 20), 'h2_8daaf6152771_', lower(hex(toUInt32(ja4_no * 2654435761)))) AS j, j, lower(hex(MD5(if(shuffles, toString(s), toString(ja4_no))))),
    concat('shop', toString(host_no), '.example'), 'h2,http/1.1', '1.3', 'TLS_AES_128_GCM_SHA256', if(h1 % 4 = 0, 37, 32), 517 + ja4_no, if(c1 % 3 = 0, '', '1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p'),
    if(c1 % 2 = 0, 64, 128) - c1 % 12, 64240, 1460, 7, '2,4,8,1,3', 400 + h1 % 4000
FROM numbers({first:UInt64}, {rows:UInt64})
SETTINGS max_block_size = 100000, min_insert_block_size_rows = 100000, max_insert_threads = 1
