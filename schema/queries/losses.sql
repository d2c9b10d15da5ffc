-- Events that never arrived, by producer and reason, of producers heard of since a time.
-- for: dashboard
SELECT source, node, reason, sum(n) AS n_events
FROM
(
    SELECT source, node, arrayJoin(arrayConcat(arrayZip(mapKeys(dropped), mapValues(dropped)), [('lost', lost)])) AS pair, toString(pair.1) AS reason, pair.2 AS n
    FROM {logs}.source_status FINAL
    WHERE recv_ts >= {from:DateTime('UTC')}
)
WHERE n > 0
GROUP BY source, node, reason
ORDER BY n_events DESC
LIMIT 50
