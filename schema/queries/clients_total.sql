-- How many clients were there in whole hours, of those that pass a filter.
-- for: dashboard
SELECT uniq(entity_id) AS n_clients
FROM {processing}.agg_host_ip_ja4_1h
WHERE hour >= toStartOfHour({from:DateTime('UTC')}) AND hour < {to:DateTime('UTC')} AND ({filter})
LIMIT 1
