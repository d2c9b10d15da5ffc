-- Features of one shard of the clients over the 24 hours that end now.
-- for: detector
SELECT * FROM {processing}.view_ai_features_24h(shards = {shards:UInt8}, shard = {shard:UInt8})
LIMIT 5000000
