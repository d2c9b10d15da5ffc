-- The current state of the clients that were flagged in a window: one row for each client and model.
-- for: detector
SELECT entity_id, model_name, toUnixTimestamp64Micro(argMax(first_detected_at, version)) AS first_us, toUnixTimestamp64Micro(max(detected_at)) AS last_us,
    argMax(cycles_flagged, version) AS n_cycles, toString(argMax(incident_id, version)) AS incident
FROM {processing}.ml_detected_anomalies
WHERE detected_at >= {from:DateTime('UTC')} AND detected_at < {to:DateTime('UTC')} + INTERVAL 1 DAY AND host != 'ja4-probe.invalid'
GROUP BY entity_id, model_name
ORDER BY last_us DESC
LIMIT {limit:UInt32}
