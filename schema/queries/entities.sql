-- Clients with most requests in a window of whole hours.
-- for: dashboard
SELECT * FROM {processing}.view_dashboard_entities(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')}, n = {limit:UInt32})
ORDER BY n_requests DESC, entity_id
LIMIT {limit:UInt32}
