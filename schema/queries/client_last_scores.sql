-- The newest score of one client by each model, with its vector and reasons.
-- for: detector, dashboard
SELECT model_name, model_version, model_state, segment, toUnixTimestamp(window_end) AS end_s, requests, score, evidence_bits, toString(verdict) AS verdict_name,
    toJSONString(voices) AS voices_json, feature_set, toJSONString(features) AS features_json, toJSONString(reasons) AS reasons_json
FROM {processing}.ml_all_scores
WHERE src_ip = {src_ip:IPv6} AND ja4 = {ja4:String} AND host = {host:String} AND window_end >= {from:DateTime('UTC')}
ORDER BY window_end DESC
LIMIT 1 BY model_name
LIMIT 20
