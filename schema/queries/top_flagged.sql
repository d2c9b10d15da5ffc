-- Flagged clients with the highest scores.
-- for: dashboard
SELECT src_ip, ja4, host, model_name, model_version, model_state, segment, score, evidence_bits, threshold, severity, state, requests, detected_at, first_detected_at, cycles_flagged, campaign_id, incident_id, voices, reasons
FROM {processing}.view_detected_anomalies(n = {limit:UInt32})
ORDER BY evidence_bits DESC, detected_at DESC
LIMIT {limit:UInt32}
