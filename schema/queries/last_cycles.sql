-- The last cycles of the detector, with what the next one goes on from.
-- for: detector
SELECT toUnixTimestamp64Micro(started_at) AS started_us, toString(cycle_id) AS cycle, toUnixTimestamp(window_end) AS end_s, toJSONString(progress) AS progress_json, state, error
FROM {processing}.ml_cycles
WHERE started_at >= {from:DateTime('UTC')}
ORDER BY started_us DESC
LIMIT {limit:UInt32}
