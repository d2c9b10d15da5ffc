-- The last cycles of the detector.
-- for: dashboard
SELECT started_at, cycle_id, window_end, duration_ms, entities, scored, skipped, flagged, alerts, thresholds, error, state, model_states, progress, budget, budget_used, suppressed, labels_seen
FROM {processing}.ml_cycles
ORDER BY started_at DESC
LIMIT {limit:UInt32}
