-- Versions of all models, newest first, with what is active.
-- for: detector, dashboard
SELECT m.model_name AS name, m.model_version AS version, toUnixTimestamp(m.trained_at) AS trained_s, m.n_rows AS n_training_rows, m.n_excluded AS n_left_out,
    m.feature_set AS features, m.sha256 AS digest, toJSONString(m.metrics) AS metrics_json, a.active_version = m.model_version AS is_active, a.is_armed AS active_is_armed, a.why AS activation_reason
FROM (SELECT * FROM {processing}.ml_models FINAL) AS m
LEFT JOIN
(
    SELECT model_name, argMax(model_version, activated_at) AS active_version, argMax(armed, activated_at) AS is_armed, argMax(reason, activated_at) AS why
    FROM {processing}.ml_model_activations
    GROUP BY model_name
) AS a ON a.model_name = m.model_name
ORDER BY name, version DESC
LIMIT {limit:UInt32}
