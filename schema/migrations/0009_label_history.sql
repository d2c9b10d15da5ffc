-- Every label and undo stays: the label that holds is one row, what it was before is needed to take an act back.
-- kind: forward
-- min_writer: 0.1.0

-- step: soc_labels_act_id
ALTER TABLE {processing}.soc_labels{local}{on_cluster} ADD COLUMN IF NOT EXISTS act_id UUID COMMENT 'the act that set it; several clients may share one';

-- step: soc_labels_undoes
ALTER TABLE {processing}.soc_labels{local}{on_cluster} ADD COLUMN IF NOT EXISTS undoes UUID COMMENT 'the act that this one takes back; zero for a new label';

-- step: soc_labels_before_label
ALTER TABLE {processing}.soc_labels{local}{on_cluster} ADD COLUMN IF NOT EXISTS before_label LowCardinality(String) COMMENT 'the label before, empty without';

-- key: the acts on one client, the clients of one act, acts of a window; append-only.
-- sharding: cityHash64(src_ip)
-- step: soc_label_history
CREATE TABLE IF NOT EXISTS {processing}.soc_label_history{local}{on_cluster}
(
    src_ip IPv6 COMMENT 'client address',
    ja4 LowCardinality(String) COMMENT 'JA4 of the client, empty without',
    host LowCardinality(String) COMMENT 'host that it asked',
    version UInt64 COMMENT 'microseconds since the epoch of the act',
    act_id UUID COMMENT 'the act; several clients may share one',
    undoes UUID COMMENT 'the act that this one takes back; zero for a new label',
    label LowCardinality(String) COMMENT 'bot, legitimate, verified_crawler, unsure',
    before_label LowCardinality(String) COMMENT 'the label before, empty without',
    reason LowCardinality(String) COMMENT 'why, from a list',
    note String COMMENT 'why, in the analyst''s words' CODEC(ZSTD(3)),
    author LowCardinality(String) COMMENT 'who',
    expires_at DateTime('UTC') COMMENT 'until when it holds, UTC; 1970 means for ever',
    deleted UInt8 COMMENT '1 takes the label back',
    model_name LowCardinality(String) COMMENT 'model whose verdict was judged; empty without',
    model_version UInt32 COMMENT 'version of that model',
    feature_set LowCardinality(String) COMMENT 'name of the feature list',
    features Array(Float32) COMMENT 'the vector as it was judged, in the order of feature_set' CODEC(ZSTD(1))
)
ENGINE = {replicated}MergeTree
ORDER BY (src_ip, ja4, host, version)
SETTINGS {dedup_window} = 10000
COMMENT 'every label and undo, append-only';

-- One insert into soc_labels is both: there is no moment at which a label holds that the history does not know.
-- step: mv_soc_label_history
CREATE MATERIALIZED VIEW IF NOT EXISTS {processing}.mv_soc_label_history{on_cluster} TO {processing}.soc_label_history{local} AS
SELECT l.src_ip, l.ja4, l.host, l.version, l.act_id, l.undoes, l.label, l.before_label, l.reason, l.note, l.author, l.expires_at, l.deleted,
    l.model_name, l.model_version, l.feature_set, l.features
FROM {processing}.soc_labels{local} AS l;
