-- Detections of one client, and how often each model made one, oldest first.
-- for: dashboard
SELECT detected_at, model_name, model_version, score, evidence_bits, severity, reasons
FROM {processing}.ml_detection_events
WHERE src_ip = {src_ip:IPv6} AND ja4 = {ja4:String} AND host = {host:String} AND detected_at >= {from:DateTime('UTC')} AND detected_at < {to:DateTime('UTC')}
ORDER BY detected_at DESC
LIMIT {limit:UInt32}
