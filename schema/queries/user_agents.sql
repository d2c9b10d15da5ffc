-- User agents of a window of whole hours that contain a text.
-- for: dashboard
SELECT user_agent, n_requests, n_errors, n_bytes, n_clients
FROM {processing}.view_dashboard_user_agents(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')})
WHERE position(user_agent, {contains:String}) > 0 OR {contains:String} = ''
ORDER BY n_requests DESC
LIMIT {limit:UInt32}
