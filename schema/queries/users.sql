-- All users of the pages.
-- for: dashboard
SELECT user_name, version, role, password_hash != '' AS has_password, disabled
FROM {processing}.soc_users FINAL
WHERE deleted = 0
ORDER BY user_name
LIMIT 10000
