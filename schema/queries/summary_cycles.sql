-- What the detector did since a time: cycles, errors, incidents opened, alerts of all cycles, and what the last cycle says.
-- for: ledger
SELECT
    count() AS n_cycles,
    countIf(error != '') AS n_failed,
    (SELECT uniqExact(incident_id) FROM {processing}.soc_incidents WHERE opened_at >= {from:DateTime('UTC')}) AS n_incidents,
    sum(alerts) AS n_alerts,
    argMax(scored, started_at) AS last_scored,
    argMax(flagged, started_at) AS last_flagged,
    argMax(state, started_at) AS last_state,
    toJSONString(argMax(model_states, started_at)) AS last_model_states,
    max(duration_ms) AS duration_ms_max,
    argMax(error, started_at) AS last_error
FROM {processing}.ml_cycles
WHERE started_at >= {from:DateTime('UTC')}
LIMIT 1
