-- On how many days before the current one each address was flagged, over a window of at most 7 days.
-- for: detector
SELECT toString(src_ip) AS address, uniqExact(toDate(detected_at)) AS n_days
FROM {processing}.ml_detection_events
WHERE detected_at >= {from:DateTime('UTC')} AND detected_at < {to:DateTime('UTC')} AND host != 'ja4-probe.invalid'
GROUP BY src_ip
ORDER BY n_days DESC, address
LIMIT {limit:UInt32}
