-- Clients with a score in a window that pass a filter, most evidence first, by the newest score of each model.
-- for: dashboard
SELECT entity_id, any(ip) AS src_ip, any(client_ja4) AS ja4, any(client_host) AS host, max(model_evidence) AS evidence
FROM
(
    SELECT cityHash64(s.src_ip, s.ja4, s.host) AS entity_id, any(s.src_ip) AS ip, any(s.ja4) AS client_ja4, any(s.host) AS client_host,
        argMax(s.evidence_bits, s.window_end) AS model_evidence
    FROM {processing}.ml_all_scores AS s
    WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')} AND s.host != 'ja4-probe.invalid' AND ({filter})
    GROUP BY entity_id, s.model_name
)
GROUP BY entity_id
ORDER BY evidence DESC, entity_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
