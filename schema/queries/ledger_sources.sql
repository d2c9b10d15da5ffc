-- The equation of each producer: next_seq = received + dropped + lost. balance is 0 when it holds; events on their way make it positive.
-- for: ledger
SELECT source, node, boot, id_kind, recv_ts, next_seq, received, arraySum(mapValues(dropped)) AS n_dropped, dropped, lost, duplicates, stopped,
    toInt64(next_seq) - toInt64(received) - toInt64(n_dropped) - toInt64(lost) AS balance
FROM {logs}.source_status FINAL
ORDER BY recv_ts DESC
LIMIT {limit:UInt32}
