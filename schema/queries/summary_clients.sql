-- Clients by evidence: of each model the newest score since a time, of each client the model with the most evidence. why and says are JSON.
-- for: ledger
WITH newest AS
(
    SELECT src_ip, ja4, host, model_name,
        argMax(tuple(evidence_bits, score, toString(verdict), model_state, requests, reasons), window_end) AS last
    FROM {processing}.ml_all_scores
    WHERE window_end >= {from:DateTime('UTC')}
    GROUP BY src_ip, ja4, host, model_name
),
strongest AS
(
    SELECT src_ip, ja4, host,
        argMax(model_name, last.1) AS model,
        argMax(last, last.1) AS top,
        groupUniqArray(last.3) AS verdicts
    FROM newest
    GROUP BY src_ip, ja4, host
),
agents AS
(
    SELECT src_ip, ja4, host, groupUniqArray(8)(user_agent) AS names
    FROM {logs}.http_logs
    WHERE ts >= now() - INTERVAL 1 DAY
    GROUP BY src_ip, ja4, host
)
SELECT
    replaceOne(toString(s.src_ip), '::ffff:', '') AS address,
    s.ja4 AS fingerprint,
    s.host AS site,
    s.model AS model,
    s.top.1 AS bits,
    s.top.2 AS combined,
    multiIf(has(s.verdicts, 'alert'), 'alert', has(s.verdicts, 'flagged'), 'flagged', 'normal') AS worst,
    s.top.4 AS state,
    s.top.5 AS n_requests,
    toJSONString(s.top.6) AS why,
    toJSONString(a.names) AS says
FROM strongest AS s
LEFT JOIN agents AS a ON a.src_ip = s.src_ip AND a.ja4 = s.ja4 AND a.host = s.host
ORDER BY bits DESC, address, fingerprint
LIMIT {limit:UInt32}
