-- Connections whose ids from test clients (query key _cid) are not one-to-one with conn_uid, among requests that arrived since a time. n_pairs is 0 without such clients.
-- for: ledger
WITH pairs AS
(
    SELECT DISTINCT extractURLParameter(concat('/?', query), '_cid') AS cid, conn_uid
    FROM {logs}.http_logs
    WHERE recv_ts >= {from:DateTime('UTC')} AND conn_uid != 0 AND query LIKE '%_cid=%'
)
SELECT
    (SELECT count() FROM pairs) AS n_pairs,
    (SELECT count() FROM (SELECT cid FROM pairs GROUP BY cid HAVING count() > 1))
    + (SELECT count() FROM (SELECT conn_uid FROM pairs GROUP BY conn_uid HAVING count() > 1)) AS n_wrong
LIMIT 1
