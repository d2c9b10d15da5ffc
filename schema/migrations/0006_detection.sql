-- What the detector makes of it: scores, detections, models, cycles.
-- kind: forward
-- min_writer: 0.1.0

-- key: the current state of one (client, model). Replacement works inside a partition only: physically one row per
--      client, model and day. Read only through views that take the highest version of each, and never with FINAL and
--      do_not_merge_across_partitions_select_final (wrong answer, measured).
-- sharding: cityHash64(src_ip)
-- retention: detection_days 7 toDateTime(detected_at)
-- step: ml_detected_anomalies
CREATE TABLE IF NOT EXISTS {processing}.ml_detected_anomalies{local}{on_cluster}
(
    src_ip IPv6 COMMENT 'client address' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4 of the client, empty without',
    host LowCardinality(String) COMMENT 'host asked',
    model_name LowCardinality(String) COMMENT 'stable name of the model, segment/window',
    version UInt64 COMMENT 'microseconds since the epoch of the write; the highest wins' CODEC(ZSTD(1)),
    entity_id UInt64 COMMENT 'cityHash64(src_ip, ja4, host)' CODEC(ZSTD(1)),
    detected_at DateTime64(6, 'UTC') COMMENT 'time of the newest detection, UTC' CODEC(Delta(8), ZSTD(1)),
    first_detected_at DateTime64(6, 'UTC') COMMENT 'time of the first detection without a quiet day since, UTC' CODEC(Delta(8), ZSTD(1)),
    cycles_flagged UInt32 COMMENT 'cycles that flagged it since then' CODEC(ZSTD(1)),
    model_version UInt32 COMMENT 'version of the model' CODEC(ZSTD(1)),
    window_start DateTime('UTC') COMMENT 'start of the window scored, UTC' CODEC(ZSTD(1)),
    window_end DateTime('UTC') COMMENT 'end of the window scored, UTC' CODEC(ZSTD(1)),
    score Float32 COMMENT 'combined score, 0 to 1' CODEC(ZSTD(1)),
    threshold Float32 COMMENT 'threshold of that cycle' CODEC(ZSTD(1)),
    severity Enum8('low' = 1, 'medium' = 2, 'high' = 3, 'critical' = 4) COMMENT 'severity' CODEC(ZSTD(1)),
    state Enum8('flagged' = 1, 'alert' = 2) COMMENT 'alert: let through by the budget' CODEC(ZSTD(1)),
    requests UInt64 COMMENT 'requests in the window' CODEC(ZSTD(1)),
    campaign_id UInt64 COMMENT 'campaign of which it is part; 0 without' CODEC(ZSTD(1)),
    reasons Array(Tuple(feature LowCardinality(String), value Float32, contribution Float32)) COMMENT 'features that raised the score, strongest first' CODEC(ZSTD(3)),
    INDEX ix_detected_at detected_at TYPE minmax GRANULARITY 1
)
ENGINE = {replicated}ReplacingMergeTree(version)
PARTITION BY toDate(detected_at)
ORDER BY (src_ip, ja4, host, model_name)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'current state of each flagged client and model';

-- key: detections of one client, days on which clients were flagged.
-- sharding: cityHash64(src_ip)
-- retention: detection_days 7 toDateTime(detected_at)
-- step: ml_detection_events
CREATE TABLE IF NOT EXISTS {processing}.ml_detection_events{local}{on_cluster}
(
    detected_at DateTime64(6, 'UTC') COMMENT 'time of the detection, UTC' CODEC(Delta(8), ZSTD(1)),
    detection_id UUID COMMENT 'the detection',
    src_ip IPv6 COMMENT 'client address' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4 of the client, empty without',
    host LowCardinality(String) COMMENT 'host asked',
    entity_id UInt64 COMMENT 'cityHash64(src_ip, ja4, host)' CODEC(ZSTD(1)),
    model_name LowCardinality(String) COMMENT 'stable name of the model, segment/window',
    model_version UInt32 COMMENT 'version of the model' CODEC(ZSTD(1)),
    cycle_id UUID COMMENT 'the cycle that found it',
    window_end DateTime('UTC') COMMENT 'end of the window scored, UTC' CODEC(ZSTD(1)),
    score Float32 COMMENT 'combined score, 0 to 1' CODEC(ZSTD(1)),
    severity Enum8('low' = 1, 'medium' = 2, 'high' = 3, 'critical' = 4) COMMENT 'severity' CODEC(ZSTD(1)),
    feature_set LowCardinality(String) COMMENT 'name of the feature list',
    features Array(Float32) COMMENT 'the vector, in the order of feature_set' CODEC(ZSTD(1)),
    reasons Array(Tuple(feature LowCardinality(String), value Float32, contribution Float32)) COMMENT 'features that raised the score, strongest first' CODEC(ZSTD(3))
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(detected_at)
ORDER BY (src_ip, ja4, host, detected_at)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'every detection, append-only: history and recurrence come from here';

-- key: scores of one client and model over time.
-- sharding: cityHash64(src_ip)
-- retention: detection_days 7 window_end
-- step: ml_all_scores
CREATE TABLE IF NOT EXISTS {processing}.ml_all_scores{local}{on_cluster}
(
    window_end DateTime('UTC') COMMENT 'end of the window scored, UTC' CODEC(Delta(4), ZSTD(1)),
    model_name LowCardinality(String) COMMENT 'stable name of the model, segment/window',
    model_version UInt32 COMMENT 'version of the model' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'client address' CODEC(ZSTD(1)),
    ja4 LowCardinality(String) COMMENT 'JA4 of the client, empty without',
    host LowCardinality(String) COMMENT 'host asked',
    requests UInt32 COMMENT 'requests in the window' CODEC(ZSTD(1)),
    score Float32 COMMENT 'combined score, 0 to 1' CODEC(ZSTD(1)),
    voices Array(Tuple(voice LowCardinality(String), raw Float32, p_value Float32)) COMMENT 'every voice: its raw score and p-value' CODEC(ZSTD(1)),
    feature_set LowCardinality(String) COMMENT 'name of the feature list',
    features Array(Float32) COMMENT 'the vector, in the order of feature_set' CODEC(ZSTD(1)),
    reasons Array(Tuple(feature LowCardinality(String), value Float32, contribution Float32)) COMMENT 'features that raised the score, strongest first' CODEC(ZSTD(3)),
    verdict Enum8('normal' = 0, 'flagged' = 1, 'alert' = 2) COMMENT 'what the threshold and the budget made of it' CODEC(ZSTD(1))
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(window_end)
ORDER BY (src_ip, ja4, host, model_name, window_end)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'scores of clients that were active since the last cycle';

-- key: scores of one group over time.
-- sharding: cityHash64(group_value)
-- retention: detection_days 7 window_end
-- step: ml_group_scores
CREATE TABLE IF NOT EXISTS {processing}.ml_group_scores{local}{on_cluster}
(
    window_end DateTime('UTC') COMMENT 'end of the window scored, UTC' CODEC(Delta(4), ZSTD(1)),
    group_kind LowCardinality(String) COMMENT 'prefix, ja4_norm, header_order or host',
    group_value String COMMENT 'the value that the group shares' CODEC(ZSTD(1)),
    model_name LowCardinality(String) COMMENT 'stable name of the model',
    model_version UInt32 COMMENT 'version of the model' CODEC(ZSTD(1)),
    clients UInt32 COMMENT 'clients in the group' CODEC(ZSTD(1)),
    requests UInt64 COMMENT 'requests of the group in the window' CODEC(ZSTD(1)),
    score Float32 COMMENT 'combined score, 0 to 1' CODEC(ZSTD(1)),
    reasons Array(Tuple(feature LowCardinality(String), value Float32, contribution Float32)) COMMENT 'features that raised the score, strongest first' CODEC(ZSTD(3))
)
ENGINE = {replicated}MergeTree
PARTITION BY toDate(window_end)
ORDER BY (group_kind, group_value, window_end)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'scores of groups: what rotates addresses still shares these';

-- key: one version of a model.
-- sharding: cityHash64(model_name)
-- step: ml_models
CREATE TABLE IF NOT EXISTS {processing}.ml_models{local}{on_cluster}
(
    model_name LowCardinality(String) COMMENT 'stable name of the model, segment/window',
    model_version UInt32 COMMENT 'version, from 1',
    trained_at DateTime('UTC') COMMENT 'when, UTC',
    window_start DateTime('UTC') COMMENT 'start of the training window, UTC',
    window_end DateTime('UTC') COMMENT 'end of the training window, UTC',
    n_rows UInt64 COMMENT 'clients in the training set',
    feature_set LowCardinality(String) COMMENT 'name of the feature list',
    feature_names Array(String) COMMENT 'the list itself',
    seed UInt64 COMMENT 'seed of the fit',
    format UInt16 COMMENT 'version of the encoding of blob',
    sha256 FixedString(64) COMMENT 'hexadecimal digest of blob',
    blob String COMMENT 'the model, below 200 kB' CODEC(ZSTD(3))
)
ENGINE = {replicated}ReplacingMergeTree(trained_at)
ORDER BY (model_name, model_version)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1
COMMENT 'saved models';

-- key: which version of a model is active: the newest row.
-- sharding: cityHash64(model_name)
-- step: ml_model_activations
CREATE TABLE IF NOT EXISTS {processing}.ml_model_activations{local}{on_cluster}
(
    model_name LowCardinality(String) COMMENT 'stable name of the model',
    activated_at DateTime64(6, 'UTC') COMMENT 'since when, UTC',
    model_version UInt32 COMMENT 'version that is active; 0 for none',
    armed UInt8 COMMENT '1: flags clients; 0: scores only',
    author LowCardinality(String) COMMENT 'user, or detector',
    reason String COMMENT 'why'
)
ENGINE = {replicated}MergeTree
ORDER BY (model_name, activated_at)
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1
COMMENT 'which model version is active since when';

-- key: the last cycles.
-- sharding: rand()
-- retention: cycles_days 90 toDateTime(started_at)
-- step: ml_cycles
CREATE TABLE IF NOT EXISTS {processing}.ml_cycles{local}{on_cluster}
(
    started_at DateTime64(6, 'UTC') COMMENT 'start, UTC',
    cycle_id UUID COMMENT 'the cycle',
    window_end DateTime('UTC') COMMENT 'end of the window scored, UTC',
    duration_ms UInt32 COMMENT 'length of the cycle, milliseconds',
    entities UInt64 COMMENT 'clients in the window',
    scored UInt64 COMMENT 'clients scored',
    skipped Map(LowCardinality(String), UInt64) COMMENT 'clients not scored, by reason',
    flagged UInt64 COMMENT 'clients flagged',
    alerts UInt64 COMMENT 'alerts let through by the budget',
    thresholds Map(LowCardinality(String), Float32) COMMENT 'threshold by model',
    error String COMMENT 'why the cycle failed; empty when it did not'
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY started_at
SETTINGS {dedup_window} = 10000, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'what each cycle of the detector did';
