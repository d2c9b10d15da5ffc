-- Clients that were there in a window and pass a filter, in an order; those with a score left out if so wished.
-- for: dashboard
SELECT entity_id, any(a.src_ip) AS ip, any(a.ja4) AS client_ja4, any(a.host) AS client_host
FROM {processing}.agg_host_ip_ja4_1h AS a
WHERE a.hour >= toStartOfHour({from:DateTime('UTC')}) AND a.hour < {to:DateTime('UTC')} AND a.last_ts >= {from:DateTime('UTC')} AND a.first_ts < {to:DateTime('UTC')}
    AND ({filter})
    AND ({with_scored:UInt8} = 1 OR entity_id NOT IN
    (
        SELECT cityHash64(s.src_ip, s.ja4, s.host) FROM {processing}.ml_all_scores AS s
        WHERE s.window_end >= {from:DateTime('UTC')} AND s.window_end <= {to:DateTime('UTC')}
    ))
GROUP BY entity_id
ORDER BY multiIf(
        {sort:String} = 'errors', toInt64(sum(a.s4xx + a.s5xx)),
        {sort:String} = 'last_seen', toUnixTimestamp64Micro(max(a.last_ts)),
        {sort:String} = 'first_seen', toUnixTimestamp64Micro(min(a.first_ts)),
        toInt64(sum(a.requests))) DESC, entity_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
