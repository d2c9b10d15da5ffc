-- Flagged clients with the highest scores.
-- for: dashboard
SELECT src_ip, ja4, host, model_name, model_version, score, threshold, severity, state, requests, detected_at, first_detected_at, cycles_flagged, campaign_id, reasons
FROM {processing}.view_detected_anomalies(n = {limit:UInt32})
ORDER BY score DESC, detected_at DESC
LIMIT {limit:UInt32}
