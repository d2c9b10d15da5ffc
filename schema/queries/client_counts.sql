-- How many clients were scored, flagged and alerted of in a window, by the newest score of each model, of those that pass a filter.
-- for: dashboard
SELECT count() AS n_scored, countIf(strongest >= 1) AS n_flagged, countIf(strongest = 2) AS n_alert
FROM
(
    SELECT entity_id, max(model_verdict) AS strongest
    FROM
    (
        SELECT cityHash64(s.src_ip, s.ja4, s.host) AS entity_id, toInt8(argMax(s.verdict, s.window_end)) AS model_verdict
        FROM {processing}.ml_all_scores AS s
        WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')} AND s.host != 'ja4-probe.invalid' AND ({filter})
        GROUP BY entity_id, s.model_name
    )
    GROUP BY entity_id
)
LIMIT 1
