-- What stands beside the requests, for measurements: the hellos of the last day; and of a detector seven days in each of which it
-- flagged the 20 000 clients with most requests on the last, in five cycles, and scored 100 000. {end} is the end of the generated rows.
INSERT INTO {logs}.tls_logs (ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, client_random)
SELECT ts, recv_ts, node, src_ip, src_port, dst_ip, dst_port, ja4, ja3, sni, repeat('r', 32)
FROM {logs}.http_logs WHERE req_index = 0 AND recv_ts > {end:DateTime('UTC')} - INTERVAL 1 DAY
SETTINGS max_insert_threads = 1, max_block_size = 20000, min_insert_block_size_rows = 100000;
INSERT INTO {processing}.ml_detected_anomalies (src_ip, ja4, host, entity_id, model_name, model_version, version, detected_at, first_detected_at, cycles_flagged, score, threshold, requests)
SELECT client.1, client.2, client.3, entity_id, 'web/1h', 1, d.number + 1, {end:DateTime('UTC')} - toIntervalHour(24 * d.number + 1) AS at, at, 5, (entity_id % 1000) / 1000, 0.5, 20
FROM (SELECT entity_id, any((src_ip, ja4, host)) AS client FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= {end:DateTime('UTC')} - INTERVAL 1 DAY GROUP BY entity_id ORDER BY sum(requests) DESC, entity_id LIMIT 20000) AS c CROSS JOIN numbers(7) AS d;
INSERT INTO {processing}.ml_detection_events (src_ip, ja4, host, entity_id, model_name, model_version, detected_at, score)
SELECT client.1, client.2, client.3, entity_id, 'web/1h', 1, {end:DateTime('UTC')} - toIntervalHour(24 * intDiv(d.number, 5) + 1) + toIntervalMinute(5 * (d.number % 5)), (entity_id % 1000) / 1000
FROM (SELECT entity_id, any((src_ip, ja4, host)) AS client FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= {end:DateTime('UTC')} - INTERVAL 1 DAY GROUP BY entity_id ORDER BY sum(requests) DESC, entity_id LIMIT 20000) AS c CROSS JOIN numbers(35) AS d;
INSERT INTO {processing}.ml_all_scores (window_end, model_name, model_version, src_ip, ja4, host, requests, score, feature_set, features)
SELECT {end:DateTime('UTC')} - toIntervalHour(24 * d.number), 'web/1h', 1, client.1, client.2, client.3, 20, (entity_id % 1000) / 1000, 'web-1', arrayMap(n -> toFloat32(n / (1 + entity_id % 50)), range(60))
FROM (SELECT entity_id, any((src_ip, ja4, host)) AS client FROM {processing}.agg_host_ip_ja4_1h WHERE hour >= {end:DateTime('UTC')} - INTERVAL 1 DAY GROUP BY entity_id ORDER BY sum(requests) DESC, entity_id LIMIT 100000) AS c CROSS JOIN numbers(7) AS d
