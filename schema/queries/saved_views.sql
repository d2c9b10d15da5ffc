-- Saved states of one page that a user may see.
-- for: dashboard
SELECT view_id, version, title, owner, shared, state
FROM {processing}.soc_saved_views FINAL
WHERE page = {page:String} AND deleted = 0 AND (shared = 1 OR owner = {user_name:String})
ORDER BY title
LIMIT {limit:UInt32}
