-- Features of every client over the hour that ends now.
-- for: detector
SELECT * FROM {processing}.view_ai_features_1h
LIMIT 5000000
