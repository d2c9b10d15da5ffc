-- Detections of one client address.
-- for: dashboard
SELECT detected_at, detection_id, ja4, host, model_name, model_version, window_end, score, severity, reasons
FROM {processing}.ml_detection_events
WHERE src_ip = {src_ip:IPv6} AND detected_at >= {from:DateTime('UTC')} AND detected_at < {to:DateTime('UTC')}
ORDER BY detected_at DESC
LIMIT {limit:UInt32}
