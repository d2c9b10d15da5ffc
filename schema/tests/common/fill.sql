INSERT INTO {logs}.tls_logs (ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, client_random)
SELECT ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, repeat('r', 32) FROM {logs}.http_logs WHERE req_index = 0;
INSERT INTO {logs}.join_corrections (ts, recv_ts, boot, seq, src_ip, host, match, conn_uid, ja4)
SELECT ts, recv_ts, boot, seq, src_ip, host, 'asof', conn_uid, 'x' FROM {logs}.http_logs WHERE match = 'none';
INSERT INTO {logs}.source_status (recv_ts, ts, source, node, boot, next_seq, received, lost, dropped) VALUES (now64(6), now64(6), 'demo', 'n', 1, 10, 7, 1, map('queue', 2));
INSERT INTO {logs}.quarantine (recv_ts, table_name, batch, reason, row_json) VALUES (now64(6) - INTERVAL 1 HOUR, 'http_logs', 'b', 'r', '{}');
INSERT INTO {processing}.ml_detected_anomalies (src_ip, ja4, host, entity_id, model_name, version, detected_at, score)
SELECT src_ip, ja4, host, entity_id, 'web/1h', number, now64(6) - INTERVAL 1 HOUR, 0.9
FROM (SELECT DISTINCT src_ip, ja4, host, entity_id FROM {logs}.http_logs LIMIT 500) AS c CROSS JOIN numbers(2) AS n;
INSERT INTO {processing}.ml_detection_events (src_ip, ja4, host, entity_id, model_name, detected_at, score)
SELECT src_ip, ja4, host, entity_id, 'web/1h', now64(6) - INTERVAL 1 HOUR, 0.9
FROM (SELECT DISTINCT src_ip, ja4, host, entity_id FROM {logs}.http_logs LIMIT 500);
INSERT INTO {processing}.ml_all_scores (window_end, model_name, src_ip, ja4, host, score)
SELECT now() - 3600, 'web/1h', src_ip, ja4, host, 0.9 FROM (SELECT DISTINCT src_ip, ja4, host FROM {logs}.http_logs LIMIT 500);
INSERT INTO {processing}.ml_group_scores (window_end, group_kind, group_value, model_name, score) VALUES (now() - 3600, 'host', 'shop0.example', 'group/1h', 0.5);
INSERT INTO {processing}.ml_models (model_name, model_version, trained_at) VALUES ('web/1h', 1, now());
INSERT INTO {processing}.ml_model_activations (model_name, activated_at, model_version, armed) VALUES ('web/1h', now64(6), 1, 1);
INSERT INTO {processing}.ml_cycles (started_at, entities) VALUES (now64(6), 5);
INSERT INTO {processing}.soc_labels (src_ip, ja4, host, version, label) SELECT src_ip, ja4, host, 1, 'bot' FROM {logs}.http_logs LIMIT 1;
INSERT INTO {processing}.soc_lists (kind, value, version, action) VALUES ('ja4', 'x', 1, 'watch');
INSERT INTO {processing}.soc_incidents (incident_id, version, status) VALUES (generateUUIDv4(), 1, 'open');
INSERT INTO {processing}.soc_audit (at, user_name, act) VALUES (now64(6) - INTERVAL 1 HOUR, 'ada', 'login');
INSERT INTO {processing}.soc_users (user_name, version, role) VALUES ('ada', 1, 'admin');
INSERT INTO {processing}.soc_saved_views (page, view_id, version, owner, state) VALUES ('overview', generateUUIDv4(), 1, 'ada', '{}');
