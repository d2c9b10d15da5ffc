-- Scores of one client address.
-- for: dashboard
SELECT window_end, ja4, host, model_name, model_version, requests, score, voices, verdict
FROM {processing}.ml_all_scores
WHERE src_ip = {src_ip:IPv6} AND window_end >= {from:DateTime('UTC')} AND window_end < {to:DateTime('UTC')}
ORDER BY window_end DESC
LIMIT {limit:UInt32}
