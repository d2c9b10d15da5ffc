-- Scores of one group.
-- for: dashboard
SELECT window_end, model_name, model_version, clients, requests, score, reasons
FROM {processing}.ml_group_scores
WHERE group_kind = {group_kind:String} AND group_value = {group_value:String} AND window_end >= {from:DateTime('UTC')} AND window_end < {to:DateTime('UTC')}
ORDER BY window_end DESC
LIMIT {limit:UInt32}
