-- Labels and undos of a window, newest first: of one client, or of all.
-- for: dashboard
SELECT act_id, version, src_ip, ja4, host, label, before_label, leftUTF8(note, 2000) AS words, author, toUnixTimestamp(expires_at) AS expires_s, deleted, undoes,
    model_name, model_version, act_id IN (SELECT undoes FROM {processing}.soc_label_history) AS undone
FROM {processing}.soc_label_history
WHERE version >= {from_us:UInt64} AND version < {to_us:UInt64} AND ({filter})
ORDER BY version DESC, src_ip, ja4, host
LIMIT {limit:UInt32}
