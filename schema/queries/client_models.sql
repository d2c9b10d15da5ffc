-- The newest score of each model of some clients in a window.
-- for: dashboard
SELECT cityHash64(s.src_ip, s.ja4, s.host) AS id, s.model_name AS model, s.model_version, s.model_state AS state, s.segment AS population, s.window_end AS window_end_at, s.requests AS n_requests, s.score AS combined,
    s.evidence_bits AS evidence, s.voices AS all_voices, s.reasons AS why, toString(s.verdict) AS decided
FROM {processing}.ml_all_scores AS s
WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')} AND s.src_ip IN {ips:Array(IPv6)} AND id IN {ids:Array(UInt64)}
ORDER BY s.window_end DESC
LIMIT 1 BY id, model
LIMIT 20000
