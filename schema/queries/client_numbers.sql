-- The newest vector of one client and model with the medians of its segment in the same cycle, and the share of the segment at or below it.
-- for: dashboard
WITH
    (
        SELECT (window_end, features)
        FROM {processing}.ml_all_scores
        WHERE src_ip = {src_ip:IPv6} AND ja4 = {ja4:String} AND host = {host:String} AND model_name = {model:String}
            AND window_end >= {from:DateTime('UTC')} AND window_end <= {to:DateTime('UTC')}
        ORDER BY window_end DESC LIMIT 1
    ) AS own
SELECT any(own.2) AS numbers, count() AS population, quantileForEach(0.5)(features) AS medians,
    avgForEach(arrayMap((x, y) -> if(isNaN(x) OR isNaN(y), NULL, toFloat32(x <= y)), features, own.2)) AS shares
FROM
(
    SELECT features FROM {processing}.ml_all_scores
    WHERE window_end = own.1 AND model_name = {model:String} AND length(features) = length(own.2)
    LIMIT 20000
)
LIMIT 1
