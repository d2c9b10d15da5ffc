-- What users did lately.
-- for: dashboard
SELECT at, user_name, act, object, detail, remote_ip
FROM {processing}.soc_audit
WHERE at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')}
ORDER BY at DESC
LIMIT {limit:UInt32}
