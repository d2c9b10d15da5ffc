-- Names of the features of a feature set, as the models have them.
-- for: dashboard
SELECT feature_set, argMax(feature_names, trained_at) AS names
FROM {processing}.ml_models
GROUP BY feature_set
ORDER BY feature_set
LIMIT 100
