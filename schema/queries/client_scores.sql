-- Scores of one client.
-- for: dashboard
SELECT window_end, model_name, model_version, requests, score, evidence_bits, voices, toString(verdict) AS decided
FROM {processing}.ml_all_scores
WHERE src_ip = {src_ip:IPv6} AND ja4 = {ja4:String} AND host = {host:String} AND window_end >= {from:DateTime('UTC')} AND window_end <= {to:DateTime('UTC')}
ORDER BY window_end DESC, model_name
LIMIT {limit:UInt32}
