-- The active version of each model, with the model.
-- for: detector, dashboard
SELECT a.model_name, a.active_version, a.is_armed, a.since, m.feature_set, m.feature_names, m.format, m.sha256, m.blob
FROM
(
    SELECT model_name, argMax(model_version, activated_at) AS active_version, argMax(armed, activated_at) AS is_armed, max(activated_at) AS since
    FROM {processing}.ml_model_activations
    GROUP BY model_name
) AS a
INNER JOIN (SELECT * FROM {processing}.ml_models FINAL) AS m ON m.model_name = a.model_name AND m.model_version = a.active_version
ORDER BY a.model_name
LIMIT 100
