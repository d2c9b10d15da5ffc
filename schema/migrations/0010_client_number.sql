-- A request keeps its client's number: a filter over a day of requests reads it instead of three columns and a hash of them.
-- Parts from before have it computed when they are read, and get it when they are merged.
-- kind: forward
-- min_writer: 0.1.0

-- step: http_logs_entity_id
ALTER TABLE {logs}.http_logs{local}{on_cluster} MODIFY COLUMN entity_id UInt64 MATERIALIZED cityHash64(src_ip, ja4, host) COMMENT 'the client (src_ip, ja4, host) as one number';

-- A column that was an alias takes no codec in the statement before.
-- step: http_logs_entity_id_codec
ALTER TABLE {logs}.http_logs{local}{on_cluster} MODIFY COLUMN entity_id CODEC(ZSTD(1));
