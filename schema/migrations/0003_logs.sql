-- What happened: requests, hellos, corrections of joins, producers' status, refused rows.
-- Partitioned by the day of arrival: a batch then touches one or two partitions whatever its rows claim as their time.
-- min_level_for_wide_part 1: an insert is one file, not two for each column, and merges make the rest (100 000 requests take
-- 250 instead of 458 ms of CPU and 100 instead of 300 MB; two days in one batch were beyond a statement's 500 MB).
-- min_columns_to_activate_adaptive_write_buffer 1: merges begin each column with a buffer of 16 kB instead of 2 MB.
-- kind: forward
-- min_writer: 0.1.0

-- key: last 100 rows, one client's timeline, rows with three filters, features of a window. The hour first keeps a
--      window in few granules; the address, fingerprint and host next put a client's rows side by side, which makes
--      them small (44 B a row against 76 when ordered by time) and a client's week quick.
-- sharding: cityHash64(src_ip)
-- retention: http_logs_days 30 toDateTime(recv_ts)
-- step: http_logs
CREATE TABLE IF NOT EXISTS {logs}.http_logs{local}{on_cluster}
(
    ts DateTime64(6, 'UTC') COMMENT 'start of the request, UTC, microseconds' CODEC(Delta(8), ZSTD(1)),
    recv_ts DateTime64(6, 'UTC') COMMENT 'arrival at the receiver, UTC, microseconds; within a day of ts' CODEC(Delta(8), ZSTD(1)),
    ts_kind Enum8('start' = 1, 'derived' = 2) COMMENT 'start: measured at the start; derived: end minus duration' CODEC(ZSTD(1)),
    ts_resolution_ns UInt32 COMMENT 'resolution of ts at its source, nanoseconds' CODEC(ZSTD(1)),
    source LowCardinality(String) COMMENT 'kind of producer, stamped by the receiver',
    node LowCardinality(String) COMMENT 'host name of the producer, stamped by the receiver',
    boot UInt64 COMMENT 'random id of the producer process' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'number of the event in that process, from 0' CODEC(Delta(8), ZSTD(1)),
    id_kind Enum8('producer' = 1, 'receiver' = 2) COMMENT 'who numbered the event' CODEC(ZSTD(1)),
    sample_rate Float32 COMMENT 'share of connections that the producer passes on; 1 without sampling' CODEC(ZSTD(1)),
    tier Enum8('edge' = 1, 'backend' = 2) COMMENT 'edge: seen where clients connect; backend: behind a proxy of ours' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2, 'internal' = 3) COMMENT 'from the configured own networks' CODEC(ZSTD(1)),
    transport Enum8('tcp' = 1, 'udp' = 2) COMMENT 'tcp, or udp for QUIC' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'client address: the effective one where effective_source says why, else the wire''s; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT 'client port on the wire' CODEC(ZSTD(1)),
    peer_ip IPv6 COMMENT 'address of the socket''s peer, always the wire''s' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'server address' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'server port' CODEC(ZSTD(1)),
    effective_source Enum8('wire' = 1, 'proxy_protocol' = 2, 'forwarded' = 3) COMMENT 'why src_ip is believed' CODEC(ZSTD(1)),
    country LowCardinality(String) DEFAULT dictGetOrDefault('{processing}.dict_asn', 'country', src_ip, '') COMMENT 'ISO 3166 code of src_ip, from dict_asn at insert time; empty where unknown',
    asn UInt32 DEFAULT dictGetOrDefault('{processing}.dict_asn', 'asn', src_ip, toUInt32(0)) COMMENT 'autonomous system of src_ip, from dict_asn at insert time; 0 where unknown' CODEC(ZSTD(1)),
    method LowCardinality(String) COMMENT 'HTTP method as received',
    scheme LowCardinality(String) COMMENT 'http or https',
    host LowCardinality(String) COMMENT 'Host or :authority; ~other beyond the limit of hosts',
    path String COMMENT 'path as received, without the query' CODEC(ZSTD(1)),
    path_template LowCardinality(String) COMMENT 'path with numbers and ids replaced by *',
    path_flags UInt16 COMMENT 'bits: 0 static asset, 1 favicon, 2 robots.txt or sitemap, 3 login, 4 admin, 5 dot file, 6 suspicious token, 7 API' CODEC(ZSTD(1)),
    path_depth UInt8 COMMENT 'number of slashes in path, at most 255' CODEC(ZSTD(1)),
    query String COMMENT 'query string as received, configured keys redacted' CODEC(ZSTD(1)),
    query_params UInt16 COMMENT 'number of parameters in query' CODEC(ZSTD(1)),
    uri_bytes UInt32 COMMENT 'length of path and query, bytes' CODEC(ZSTD(1)),
    http_version LowCardinality(String) COMMENT '1.0, 1.1, 2 or 3',
    user_agent LowCardinality(String) COMMENT 'User-Agent header',
    ua_family LowCardinality(String) COMMENT 'family that the User-Agent claims',
    referer String COMMENT 'Referer header' CODEC(ZSTD(1)),
    accept_language LowCardinality(String) COMMENT 'Accept-Language header',
    headers_form Enum8('none' = 0, 'named' = 1, 'ordered' = 2) COMMENT 'ordered: all headers in the client''s order; named: some, no order; none: no headers known' CODEC(ZSTD(1)),
    header_order LowCardinality(String) COMMENT 'header names in the client''s order and case, comma between; empty unless headers_form is ordered',
    header_order_hash UInt64 COMMENT 'hash of header_order; 0 when it is empty' CODEC(ZSTD(1)),
    header_count UInt16 COMMENT 'number of headers known' CODEC(ZSTD(1)),
    header_flags UInt32 COMMENT 'bits, header present: 0 accept, 1 accept-language, 2 accept-encoding, 3 cookie, 4 referer, 5 sec-fetch-site, 6 sec-fetch-mode, 7 sec-fetch-dest, 8 sec-fetch-user, 9 sec-ch-ua, 10 upgrade-insecure-requests, 11 priority, 12 te, 13 connection, 14 authorization, 15 x-forwarded-for, 16 range, 17 if-none-match, 18 if-modified-since, 19 origin, 20 dnt, 21 x-requested-with; 24 names in lower case, 25 names in title case, 26 a name twice' CODEC(ZSTD(1)),
    headers Map(LowCardinality(String), String) COMMENT 'headers without those that have a column of their own, secrets redacted' CODEC(ZSTD(3)),
    session_hash UInt64 COMMENT 'keyed hash of the session cookie or credentials; 0 without' CODEC(ZSTD(1)),
    status UInt16 COMMENT 'HTTP status; 0 when the end was not seen' CODEC(ZSTD(1)),
    bytes_sent UInt64 COMMENT 'response body, bytes; 0 when the end was not seen' CODEC(ZSTD(1)),
    duration_us UInt32 COMMENT 'start to end, microseconds; 0 when the end was not seen' CODEC(ZSTD(1)),
    conn_id UInt64 COMMENT 'hash of the server''s own id of the connection; 0 without' CODEC(ZSTD(1)),
    req_index UInt32 COMMENT 'index of the request on its connection, from 0; 4294967295 when unknown' CODEC(ZSTD(1)),
    conn_req_index UInt32 COMMENT 'index of the request on its connection as the correlator counted, from 0' CODEC(ZSTD(1)),
    stream_id UInt64 COMMENT 'HTTP/2 or HTTP/3 stream; 0 for HTTP/1' CODEC(ZSTD(1)),
    request_id String COMMENT 'id that the request carries, if any' CODEC(ZSTD(1)),
    match Enum8('exact' = 1, 'asof' = 2, 'ambiguous' = 3, 'none' = 4) COMMENT 'how the connection was found' CODEC(ZSTD(1)),
    match_reason LowCardinality(String) COMMENT 'why there is none; empty for a match',
    delta_us Int64 COMMENT 'request start minus ClientHello, microseconds; 0 without a connection' CODEC(ZSTD(1)),
    conn_uid UInt128 COMMENT 'the sensor''s id of the connection; 0 without' CODEC(ZSTD(1)),
    confirmed Enum8('none' = 0, 'acked' = 1, 'followed' = 2) COMMENT 'how far the connection is known to be real' CODEC(ZSTD(1)),
    contradictions LowCardinality(String) COMMENT 'where request and connection disagree, for example sni_host, comma between',
    conn_flags UInt32 COMMENT 'bits: 0 retransmitted, 1 overlap_conflict, 2 midstream, 3 second_hello, 4 retry, 5 early_data, 6 out_of_order, 7 fragmented_records' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4 of the client; empty when there is none or when it is a proxy''s',
    ja4_norm LowCardinality(String) COMMENT 'JA4 without PSK and padding: one browser, one identity',
    ja3 LowCardinality(String) COMMENT 'JA3, 32 hexadecimal digits',
    sni LowCardinality(String) COMMENT 'server name of the ClientHello',
    alpn LowCardinality(String) COMMENT 'ALPN offered, comma between',
    tls_version LowCardinality(String) COMMENT 'highest TLS version offered',
    tls_cipher LowCardinality(String) COMMENT 'cipher suite agreed, as the server names it; empty where it does not say',
    tls_flags UInt16 COMMENT 'bits: 0 resumed (the server says so), 1 ECH offered, 2 PSK offered, 3 post-quantum key share, 4 early data offered, 5 SNI present' CODEC(ZSTD(1)),
    hello_bytes UInt32 COMMENT 'length of the ClientHello, bytes' CODEC(ZSTD(1)),
    h2_fp LowCardinality(String) COMMENT 'HTTP/2 settings, window, priority, pseudo-header order',
    tcp_ttl UInt8 COMMENT 'TTL or hop limit of the SYN; 0 when it was not seen' CODEC(ZSTD(1)),
    tcp_window UInt16 COMMENT 'window of the SYN, bytes' CODEC(ZSTD(1)),
    tcp_mss UInt16 COMMENT 'maximum segment size of the SYN, bytes; 0 without' CODEC(ZSTD(1)),
    tcp_wscale UInt8 COMMENT 'window scale of the SYN, a power of two; 255 without' CODEC(ZSTD(1)),
    tcp_options LowCardinality(String) COMMENT 'TCP option numbers of the SYN in order, comma between',
    syn_to_hello_us UInt32 COMMENT 'SYN to ClientHello, microseconds; 0 when the SYN was not seen' CODEC(ZSTD(1)),
    truncated LowCardinality(String) COMMENT 'fields that the producer cut, comma between',
    event_id String ALIAS concat(leftPad(lower(hex(boot)), 16, '0'), '-', toString(seq)) COMMENT 'boot-seq, the identity of the event',
    conn_uid_hex String ALIAS leftPad(lower(hex(conn_uid)), 32, '0') COMMENT 'conn_uid as the sensor writes it',
    entity_id UInt64 ALIAS cityHash64(src_ip, ja4, host) COMMENT 'the client (src_ip, ja4, host) as one number',
    src_prefix IPv6 ALIAS toIPv6(cutIPv6(src_ip, 8, 1)) COMMENT 'network of src_ip: /24 for IPv4, /64 for IPv6',
    INDEX ix_src_ip src_ip TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ix_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(recv_ts)
ORDER BY (toStartOfHour(ts), src_ip, ja4, host, ts)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'one row per request, joined with its connection';

-- key: hellos of one client, hellos of one connection, last hellos; the same reasons as http_logs.
-- sharding: cityHash64(src_ip)
-- retention: tls_logs_days 7 toDateTime(recv_ts)
-- step: tls_logs
CREATE TABLE IF NOT EXISTS {logs}.tls_logs{local}{on_cluster}
(
    ts DateTime64(6, 'UTC') COMMENT 'time of the ClientHello, UTC, microseconds' CODEC(Delta(8), ZSTD(1)),
    recv_ts DateTime64(6, 'UTC') COMMENT 'arrival at the receiver, UTC, microseconds; within a day of ts' CODEC(Delta(8), ZSTD(1)),
    node LowCardinality(String) COMMENT 'host name of the sensor, stamped by the receiver',
    boot UInt64 COMMENT 'random id of the sensor process' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'number of the event in that process, from 0' CODEC(Delta(8), ZSTD(1)),
    conn_uid UInt128 COMMENT 'the sensor''s id of the connection' CODEC(ZSTD(1)),
    hello_index UInt8 COMMENT 'index of the hello on its connection: 1 after a HelloRetryRequest' CODEC(ZSTD(1)),
    transport Enum8('tcp' = 1, 'udp' = 2) COMMENT 'tcp, or udp for QUIC' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2, 'internal' = 3) COMMENT 'from the configured own networks' CODEC(ZSTD(1)),
    confirmed Enum8('none' = 0, 'acked' = 1, 'followed' = 2) COMMENT 'how far the connection was known to be real when the row was written' CODEC(ZSTD(1)),
    sample_rate Float32 COMMENT 'share of connections that the producer passes on; 1 without sampling' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'who sent the hello, on the wire; IPv4 as ::ffff:a.b.c.d' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT 'client port' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'server address' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'server port' CODEC(ZSTD(1)),
    views Array(String) COMMENT 'other address pairs under which the same hello was seen, client>server' CODEC(ZSTD(3)),
    encap LowCardinality(String) COMMENT 'outer addresses and network id when encapsulated; empty without',
    proxy_ip IPv6 COMMENT 'client address of a PROXY header before the hello; :: without' CODEC(ZSTD(1)),
    proxy_port UInt16 COMMENT 'client port of that PROXY header' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4',
    ja4_norm LowCardinality(String) COMMENT 'JA4 without PSK and padding',
    ja4_r LowCardinality(String) COMMENT 'JA4 before hashing',
    ja3 LowCardinality(String) COMMENT 'JA3, 32 hexadecimal digits',
    sni String COMMENT 'server name; empty without' CODEC(ZSTD(1)),
    alpn LowCardinality(String) COMMENT 'ALPN offered, comma between',
    tls_version LowCardinality(String) COMMENT 'highest TLS version offered',
    client_random FixedString(32) COMMENT 'random of the hello: joins with what a server logs' CODEC(NONE),
    hello_bytes UInt32 COMMENT 'length of the ClientHello, bytes' CODEC(ZSTD(1)),
    tls_flags UInt16 COMMENT 'bits: 1 ECH offered, 2 PSK offered, 3 post-quantum key share, 4 early data, 5 SNI present' CODEC(ZSTD(1)),
    conn_flags UInt32 COMMENT 'bits: 0 retransmitted, 1 overlap_conflict, 2 midstream, 3 second_hello, 4 retry, 5 early_data, 6 out_of_order, 7 fragmented_records' CODEC(ZSTD(1)),
    tcp_ttl UInt8 COMMENT 'TTL or hop limit of the SYN; 0 when it was not seen' CODEC(ZSTD(1)),
    tcp_window UInt16 COMMENT 'window of the SYN, bytes' CODEC(ZSTD(1)),
    tcp_mss UInt16 COMMENT 'maximum segment size of the SYN, bytes; 0 without' CODEC(ZSTD(1)),
    tcp_wscale UInt8 COMMENT 'window scale of the SYN, a power of two; 255 without' CODEC(ZSTD(1)),
    tcp_options LowCardinality(String) COMMENT 'TCP option numbers of the SYN in order, comma between',
    syn_to_hello_us UInt32 COMMENT 'SYN to ClientHello, microseconds; 0 when the SYN was not seen' CODEC(ZSTD(1)),
    conn_uid_hex String ALIAS leftPad(lower(hex(conn_uid)), 32, '0') COMMENT 'conn_uid as the sensor writes it',
    INDEX ix_src_ip src_ip TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ix_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(recv_ts)
ORDER BY (toStartOfHour(ts), src_ip, ja4, ts)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'one row per ClientHello';

-- key: corrections of the requests of a window (joined to http_logs by boot and seq).
-- sharding: cityHash64(src_ip)
-- retention: http_logs_days 30 toDateTime(recv_ts)
-- step: join_corrections
CREATE TABLE IF NOT EXISTS {logs}.join_corrections{local}{on_cluster}
(
    ts DateTime64(6, 'UTC') COMMENT 'start of the request that is corrected, UTC, microseconds' CODEC(Delta(8), ZSTD(1)),
    recv_ts DateTime64(6, 'UTC') COMMENT 'when the correction was made, UTC, microseconds' CODEC(Delta(8), ZSTD(1)),
    boot UInt64 COMMENT 'boot of the request''s event' CODEC(ZSTD(1)),
    seq UInt64 COMMENT 'seq of the request''s event' CODEC(Delta(8), ZSTD(1)),
    src_ip IPv6 COMMENT 'src_ip of the request' CODEC(ZSTD(1)),
    host LowCardinality(String) COMMENT 'host of the request',
    match Enum8('exact' = 1, 'asof' = 2, 'ambiguous' = 3, 'none' = 4) COMMENT 'how the connection was found now' CODEC(ZSTD(1)),
    match_reason LowCardinality(String) COMMENT 'by which rule',
    delta_us Int64 COMMENT 'request start minus ClientHello, microseconds' CODEC(ZSTD(1)),
    conn_uid UInt128 COMMENT 'the connection' CODEC(ZSTD(1)),
    confirmed Enum8('none' = 0, 'acked' = 1, 'followed' = 2) COMMENT 'how far the connection is known to be real' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4 of the connection',
    ja4_norm LowCardinality(String) COMMENT 'JA4 without PSK and padding',
    ja3 LowCardinality(String) COMMENT 'JA3',
    sni LowCardinality(String) COMMENT 'server name of the ClientHello',
    INDEX ix_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(recv_ts)
ORDER BY (boot, seq)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'connections that arrived after their request was written; http_logs keeps its row, so that nothing is counted twice';

-- key: the ledger's equation per producer; the newest row of a key is the last status.
-- sharding: cityHash64(source, node)
-- retention: source_status_days 30 toDateTime(recv_ts)
-- step: source_status
CREATE TABLE IF NOT EXISTS {logs}.source_status{local}{on_cluster}
(
    recv_ts DateTime64(6, 'UTC') COMMENT 'arrival of the last status or count, UTC, microseconds; the newest wins' CODEC(ZSTD(1)),
    ts DateTime64(6, 'UTC') COMMENT 'time that the producer wrote into it, UTC, microseconds' CODEC(ZSTD(1)),
    source LowCardinality(String) COMMENT 'kind of producer',
    node LowCardinality(String) COMMENT 'host name of the producer',
    boot UInt64 COMMENT 'random id of the producer process',
    id_kind Enum8('producer' = 1, 'receiver' = 2) COMMENT 'who numbers the events',
    next_seq UInt64 COMMENT 'events that the producer has numbered so far',
    received UInt64 COMMENT 'events received from it',
    lost UInt64 COMMENT 'gaps in the numbers that no drop explains, events',
    duplicates UInt64 COMMENT 'events received again and left out, not part of received',
    dropped Map(LowCardinality(String), UInt64) COMMENT 'events that the producer dropped, by reason',
    stopped Bool COMMENT 'the producer said that this is its last status'
)
ENGINE = {replicated}ReplacingMergeTree(recv_ts)
ORDER BY (source, node, boot)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1
COMMENT 'last status of each producer process beside what was received from it; read with FINAL';

-- key: what was refused lately, newest days first.
-- sharding: rand()
-- retention: quarantine_days 30 toDateTime(recv_ts)
-- step: quarantine
CREATE TABLE IF NOT EXISTS {logs}.quarantine{local}{on_cluster}
(
    recv_ts DateTime64(6, 'UTC') COMMENT 'when the row was refused, UTC, microseconds' CODEC(Delta(8), ZSTD(1)),
    table_name LowCardinality(String) COMMENT 'table that the row was meant for',
    batch LowCardinality(String) COMMENT 'token of the sealed batch',
    row_idx UInt32 COMMENT 'position of the row in that batch, from 0',
    boot UInt64 COMMENT 'boot of the row''s event; 0 when it has none',
    seq UInt64 COMMENT 'seq of the row''s event',
    reason String COMMENT 'what the store answered' CODEC(ZSTD(1)),
    row_json String COMMENT 'the row as a JSON object, columns as keys' CODEC(ZSTD(3))
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(recv_ts)
ORDER BY (table_name, recv_ts)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'rows that the store refused for their content, with the reason';
