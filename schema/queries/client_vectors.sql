-- The score with most evidence among the newest of each model of some addresses: what a label judges.
-- for: dashboard
SELECT src_ip, ja4, host, model_name, model_version, feature_set, features
FROM
(
    SELECT src_ip, ja4, host, model_name, model_version, feature_set, features, evidence_bits, window_end
    FROM {processing}.ml_all_scores
    WHERE window_end >= {from:DateTime('UTC')} AND window_end <= {to:DateTime('UTC')} AND src_ip IN {ips:Array(IPv6)}
    ORDER BY window_end DESC
    LIMIT 1 BY src_ip, ja4, host, model_name
)
ORDER BY evidence_bits DESC, window_end DESC
LIMIT 1 BY src_ip, ja4, host
LIMIT 100000
