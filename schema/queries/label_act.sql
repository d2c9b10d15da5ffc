-- The clients of one act, each with its label now and the one before the act.
-- for: dashboard
SELECT a.src_ip AS ip, a.ja4 AS client_ja4, a.host AS client_host, a.undoes AS took_back, n.act_id AS now_act_id, b.version AS before_version, b.label AS before_label_set,
    b.note AS before_note, b.author AS before_author, toUnixTimestamp(b.expires_at) AS before_expires_s, b.deleted AS before_deleted, b.model_name AS before_model_name,
    b.model_version AS before_model_version, b.feature_set AS before_feature_set, b.features AS before_features, a.label AS act_label
FROM (SELECT src_ip, ja4, host, version, undoes, label FROM {processing}.soc_label_history WHERE act_id = {act_id:UUID}) AS a
LEFT JOIN (SELECT src_ip, ja4, host, act_id FROM {processing}.soc_labels FINAL) AS n ON n.src_ip = a.src_ip AND n.ja4 = a.ja4 AND n.host = a.host
LEFT JOIN
(
    SELECT *
    FROM {processing}.soc_label_history
    WHERE version < (SELECT min(version) FROM {processing}.soc_label_history WHERE act_id = {act_id:UUID})
        AND src_ip IN (SELECT src_ip FROM {processing}.soc_label_history WHERE act_id = {act_id:UUID})
    ORDER BY version DESC
    LIMIT 1 BY src_ip, ja4, host
) AS b ON b.src_ip = a.src_ip AND b.ja4 = a.ja4 AND b.host = a.host
ORDER BY ip, client_ja4, client_host
LIMIT 10000
