-- Rows for the tables that http_logs does not fill by itself.
INSERT INTO {logs}.tls_logs (ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, client_random)
SELECT ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, repeat('r', 32) FROM {logs}.http_logs WHERE req_index = 0;
INSERT INTO {logs}.join_corrections (ts, recv_ts, boot, seq, src_ip, host, match, conn_uid, ja4)
SELECT ts, recv_ts, boot, seq, src_ip, host, 'asof', conn_uid, 'x' FROM {logs}.http_logs WHERE match = 'none';
INSERT INTO {logs}.source_status (recv_ts, ts, source, node, boot, next_seq, received, lost, dropped) VALUES (now64(6), now64(6), 'demo', 'n', 1, 10, 7, 1, map('queue', 2));
INSERT INTO {logs}.quarantine (recv_ts, table_name, batch, reason, row_json) VALUES (now64(6) - INTERVAL 1 HOUR, 'http_logs', 'b', 'r', '{}');
INSERT INTO {processing}.ml_all_scores (window_end, model_name, model_version, src_ip, ja4, host, score, evidence_bits, feature_set, features, reasons)
SELECT now() - 3600, 'web/1h', 1, src_ip, ja4, host, 0.9, 12, 'web-1', [1, 2], [('forest', 'requests', 4037, 12, 99, 12, '', '', 'host:312')]
FROM (SELECT DISTINCT src_ip, ja4, host FROM {logs}.http_logs LIMIT 500);
INSERT INTO {processing}.ml_detected_anomalies (src_ip, ja4, host, entity_id, model_name, version, detected_at, score)
SELECT src_ip, ja4, host, cityHash64(src_ip, ja4, host), 'web/1h', number, now64(6) - INTERVAL 1 HOUR, 0.9
FROM {processing}.ml_all_scores AS c CROSS JOIN numbers(2) AS n;
INSERT INTO {processing}.ml_detection_events (src_ip, ja4, host, entity_id, model_name, detected_at, score)
SELECT src_ip, ja4, host, cityHash64(src_ip, ja4, host), 'web/1h', now64(6) - INTERVAL 1 HOUR, 0.9
FROM {processing}.ml_all_scores;
INSERT INTO {processing}.ml_group_scores (window_end, group_kind, group_value, model_name, score) VALUES (now() - 3600, 'host', 'shop0.example', 'group/1h', 0.5);
INSERT INTO {processing}.ml_models (model_name, model_version, trained_at, feature_set, feature_names) VALUES ('web/1h', 1, now(), 'web-1', ['requests', 'errors']);
INSERT INTO {processing}.ml_model_activations (model_name, activated_at, model_version, armed) VALUES ('web/1h', now64(6), 1, 1);
INSERT INTO {processing}.ml_cycles (started_at, entities) VALUES (now64(6), 5);
INSERT INTO {processing}.soc_labels (src_ip, ja4, host, version, label, act_id) SELECT src_ip, ja4, host, 1, 'legitimate', '11111111-1111-1111-1111-111111111111' FROM {processing}.ml_all_scores ORDER BY src_ip, ja4, host LIMIT 1;
INSERT INTO {processing}.soc_lists (kind, value, version, action) VALUES ('ja4', 'x', 1, 'watch');
INSERT INTO {processing}.soc_incidents (incident_id, version, last_alert_at, status) VALUES (generateUUIDv4(), 1, now64(6), 'open');
INSERT INTO {processing}.soc_audit (at, user_name, act) VALUES (now64(6) - INTERVAL 1 HOUR, 'ada', 'login');
INSERT INTO {processing}.soc_users (user_name, version, role) VALUES ('ada', 1, 'admin');
INSERT INTO {processing}.soc_saved_views (page, view_id, version, owner, state) VALUES ('overview', generateUUIDv4(), 1, 'ada', '{}');
