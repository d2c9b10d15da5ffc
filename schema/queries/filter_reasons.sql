-- Clients with a feature that passes a filter among the reasons of their newest scores in a window: a part of other queries.
-- for: dashboard
SELECT id
FROM
(
    SELECT cityHash64(s.src_ip, s.ja4, s.host) AS id, arrayJoin(argMax(s.reasons.feature, s.window_end)) AS reason
    FROM {processing}.ml_all_scores AS s
    WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')} AND s.host != 'ja4-probe.invalid' AND s.evidence_bits > 0
    GROUP BY id, s.model_name
)
WHERE {filter}
LIMIT 1000000
