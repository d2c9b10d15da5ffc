-- Clients whose newest score of a model in a window passes a filter: a part of other queries.
-- for: dashboard
SELECT id
FROM
(
    SELECT cityHash64(s.src_ip, s.ja4, s.host) AS id, s.model_name AS model, argMax(s.segment, s.window_end) AS segment,
        argMax(s.evidence_bits, s.window_end) AS evidence, toString(argMax(s.verdict, s.window_end)) AS verdict
    FROM {processing}.ml_all_scores AS s
    WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')} AND s.host != 'ja4-probe.invalid'
    GROUP BY id, model
)
WHERE {filter}
LIMIT 1000000
