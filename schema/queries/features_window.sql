-- Features of one shard of the clients over any window, as the detector reads them: numbers as Float32, then texts.
-- for: detector
SELECT
    src_ip, toString(ja4) AS ja4_text, toString(host) AS host_text, cityHash64(src_ip, ja4, host) AS entity,
    toUnixTimestamp64Micro(last_ts) AS last_us, header_flags_or, header_flags_and, one_header_order_hash,
    toFloat32(requests) AS f_requests, toFloat32(span_s) AS f_span_s, toFloat32(active_minutes) AS f_active_minutes, toFloat32(night_requests) AS f_night_requests,
    toFloat32(s3xx) AS f_s3xx, toFloat32(s304) AS f_s304, toFloat32(s4xx) AS f_s4xx, toFloat32(s404) AS f_s404, toFloat32(s40x) AS f_s40x, toFloat32(s5xx) AS f_s5xx,
    toFloat32(n_statuses) AS f_n_statuses, toFloat32(n_unended) AS f_n_unended,
    toFloat32(n_get) AS f_n_get, toFloat32(n_post) AS f_n_post, toFloat32(n_head) AS f_n_head, toFloat32(n_options) AS f_n_options,
    toFloat32(bytes) AS f_bytes, toFloat32(bytes_p50) AS f_bytes_p50, toFloat32(bytes_p95) AS f_bytes_p95,
    toFloat32(n_static) AS f_n_static, toFloat32(n_favicon) AS f_n_favicon, toFloat32(n_robots) AS f_n_robots, toFloat32(n_login) AS f_n_login,
    toFloat32(n_admin) AS f_n_admin, toFloat32(n_dotfile) AS f_n_dotfile, toFloat32(n_suspicious) AS f_n_suspicious, toFloat32(n_api) AS f_n_api,
    toFloat32(params) AS f_params, toFloat32(uri_max) AS f_uri_max, toFloat32(depth_mean) AS f_depth_mean,
    toFloat32(no_referer) AS f_no_referer, toFloat32(no_language) AS f_no_language, toFloat32(no_encoding) AS f_no_encoding, toFloat32(no_sec_fetch) AS f_no_sec_fetch,
    toFloat32(n_client_hints) AS f_n_client_hints, toFloat32(n_cookie) AS f_n_cookie, toFloat32(header_count_mean) AS f_header_count_mean, toFloat32(n_headers) AS f_n_headers,
    toFloat32(n_header_orders) AS f_n_header_orders, toFloat32(n_user_agents) AS f_n_user_agents, toFloat32(n_h2) AS f_n_h2, toFloat32(n_h2_fps) AS f_n_h2_fps,
    toFloat32(n_resumed) AS f_n_resumed, toFloat32(n_pq) AS f_n_pq, toFloat32(n_sni) AS f_n_sni, toFloat32(n_joined) AS f_n_joined, toFloat32(n_conns) AS f_n_conns,
    toFloat32(n_sessions) AS f_n_sessions, toFloat32(n_contradicting) AS f_n_contradicting, toFloat32(n_wire) AS f_n_wire,
    toFloat32(one_hello_bytes) AS f_one_hello_bytes, toFloat32(one_ttl) AS f_one_ttl, toFloat32(one_window) AS f_one_window, toFloat32(one_mss) AS f_one_mss,
    toFloat32(one_wscale) AS f_one_wscale, toFloat32(syn_to_hello_p50_us) AS f_syn_to_hello_p50_us,
    toFloat32(n_events) AS f_n_events, toFloat32(gap_p50_us) AS f_gap_p50_us, toFloat32(gap_p95_us) AS f_gap_p95_us, toFloat32(gap_mean_us) AS f_gap_mean_us,
    toFloat32(gap_sd_us) AS f_gap_sd_us, toFloat32(gap_lag1) AS f_gap_lag1, toFloat32(gap_fast_share) AS f_gap_fast_share, toFloat32(max_per_minute) AS f_max_per_minute,
    toFloat32(n_paths) AS f_n_paths, toFloat32(path_entropy) AS f_path_entropy, toFloat32(transition_entropy) AS f_transition_entropy,
    toString(one_ja4_norm) AS t_ja4_norm, toString(one_alpn) AS t_alpn, toString(one_tls_version) AS t_tls_version, toString(one_h2_fp) AS t_h2_fp,
    toString(one_tcp_options) AS t_tcp_options, toString(one_navigation_order) AS t_navigation_order,
    arrayMap(x -> toString(x), user_agents) AS a_user_agents, arrayMap(x -> toString(x), http_versions) AS a_http_versions, arrayMap(x -> toString(x), header_orders) AS a_header_orders
FROM {processing}.view_ai_features(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')}, shards = {shards:UInt8}, shard = {shard:UInt8})
LIMIT 5000000
