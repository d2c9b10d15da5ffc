-- One user, at login.
-- for: dashboard
SELECT user_name, version, role, password_hash, disabled
FROM {processing}.soc_users FINAL
WHERE user_name = {user_name:String} AND deleted = 0
LIMIT 1
