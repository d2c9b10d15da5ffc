-- How many different paths of each client fewer than three clients of its host asked for; one shard of the paths, to be summed.
-- for: detector
SELECT entity, count() AS n_rare_paths
FROM
(
    SELECT arrayJoin(ids) AS entity
    FROM
    (
        SELECT groupUniqArray(3)(entity_id) AS ids
        FROM {logs}.http_logs
        WHERE ts >= {from:DateTime('UTC')} AND ts < {to:DateTime('UTC')}
            AND _partition_id >= toString(toYYYYMMDD({from:DateTime('UTC')} - INTERVAL 1 DAY)) AND _partition_id <= toString(toYYYYMMDD({to:DateTime('UTC')} + INTERVAL 1 DAY))
            AND cityHash64(path) % {shards:UInt8} = {shard:UInt8}
            AND host != 'ja4-probe.invalid'
        GROUP BY host, cityHash64(path)
        HAVING length(ids) < 3
    )
)
GROUP BY entity
LIMIT {limit:UInt32}
