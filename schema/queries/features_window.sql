-- Features of one shard of the clients over any window: training, what a label judged.
-- for: detector
SELECT * FROM {processing}.view_ai_features(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')}, shards = {shards:UInt8}, shard = {shard:UInt8})
LIMIT 5000000
