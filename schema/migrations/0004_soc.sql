-- What analysts do: versioned appends, kept by their own retention, never by that of the data tables.
-- kind: forward
-- min_writer: 0.1.0

-- key: the label of one client, all labels for training; the newest version of a key is read with FINAL.
-- sharding: cityHash64(src_ip)
-- step: soc_labels
CREATE TABLE IF NOT EXISTS {processing}.soc_labels{local}{on_cluster}
(
    src_ip IPv6 COMMENT 'client address',
    ja4 LowCardinality(String) COMMENT 'JA4 of the client, empty without',
    host LowCardinality(String) COMMENT 'host that it asked',
    version UInt64 COMMENT 'microseconds since the epoch of the act; the highest wins',
    label LowCardinality(String) COMMENT 'bot, legitimate, false_positive, verified_crawler, unknown',
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
ENGINE = {replicated}ReplacingMergeTree(version)
ORDER BY (src_ip, ja4, host)
SETTINGS {dedup_window} = 10000
COMMENT 'analysts'' verdicts on clients';

-- key: entries of one list; read whole by dict_lists.
-- sharding: cityHash64(value)
-- step: soc_lists
CREATE TABLE IF NOT EXISTS {processing}.soc_lists{local}{on_cluster}
(
    kind LowCardinality(String) COMMENT 'what value is: ip, prefix, ja4, asn, host, user_agent',
    value String COMMENT 'the value, spelled as in its column',
    version UInt64 COMMENT 'microseconds since the epoch of the act; the highest wins',
    action LowCardinality(String) COMMENT 'allow, deny or watch',
    reason String COMMENT 'why',
    author LowCardinality(String) COMMENT 'who',
    expires_at DateTime('UTC') COMMENT 'until when it holds, UTC; 1970 means for ever',
    deleted UInt8 COMMENT '1 takes the entry back'
)
ENGINE = {replicated}ReplacingMergeTree(version)
ORDER BY (kind, value)
SETTINGS {dedup_window} = 10000
COMMENT 'allow, deny and watch lists';

-- key: one incident by id; the open ones.
-- sharding: cityHash64(incident_id)
-- step: soc_incidents
CREATE TABLE IF NOT EXISTS {processing}.soc_incidents{local}{on_cluster}
(
    incident_id UUID COMMENT 'the incident',
    version UInt64 COMMENT 'microseconds since the epoch of the act; the highest wins',
    opened_at DateTime64(6, 'UTC') COMMENT 'first alert, UTC',
    last_alert_at DateTime64(6, 'UTC') COMMENT 'last alert, UTC; quiet for a day ends it',
    status LowCardinality(String) COMMENT 'open, acknowledged, closed',
    severity LowCardinality(String) COMMENT 'low, medium, high, critical',
    title String COMMENT 'one line',
    group_kind LowCardinality(String) COMMENT 'what holds its alerts together: client, prefix, ja4_norm, header_order, host',
    group_value String COMMENT 'the value of that',
    assignee LowCardinality(String) COMMENT 'user, empty without',
    note String COMMENT 'analysts'' notes' CODEC(ZSTD(3)),
    deleted UInt8 COMMENT '1 takes the incident back'
)
ENGINE = {replicated}ReplacingMergeTree(version)
ORDER BY incident_id
SETTINGS {dedup_window} = 10000
COMMENT 'alerts of one client or group until it is quiet for a day';

-- key: what happened lately; append-only.
-- sharding: rand()
-- retention: soc_audit_days 400 toDateTime(at)
-- step: soc_audit
CREATE TABLE IF NOT EXISTS {processing}.soc_audit{local}{on_cluster}
(
    at DateTime64(6, 'UTC') COMMENT 'when, UTC',
    user_name LowCardinality(String) COMMENT 'who',
    act LowCardinality(String) COMMENT 'what: login, query, label, list, incident, export',
    object String COMMENT 'on what',
    detail String COMMENT 'JSON object with the rest' CODEC(ZSTD(3)),
    remote_ip IPv6 COMMENT 'from where'
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY at
SETTINGS {dedup_window} = 10000, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1
COMMENT 'every act of every user';

-- key: one user by name, at login.
-- sharding: cityHash64(user_name)
-- step: soc_users
CREATE TABLE IF NOT EXISTS {processing}.soc_users{local}{on_cluster}
(
    user_name String COMMENT 'login name',
    version UInt64 COMMENT 'microseconds since the epoch of the act; the highest wins',
    role LowCardinality(String) COMMENT 'viewer, analyst, admin',
    password_hash String COMMENT 'argon2id in PHC form; empty for users of an identity provider',
    disabled UInt8 COMMENT '1 may not log in',
    deleted UInt8 COMMENT '1 takes the user back'
)
ENGINE = {replicated}ReplacingMergeTree(version)
ORDER BY user_name
SETTINGS {dedup_window} = 10000
COMMENT 'local users of the dashboard';

-- key: saved views of one page.
-- sharding: cityHash64(view_id)
-- step: soc_saved_views
CREATE TABLE IF NOT EXISTS {processing}.soc_saved_views{local}{on_cluster}
(
    page LowCardinality(String) COMMENT 'page that it belongs to',
    view_id UUID COMMENT 'the saved view',
    version UInt64 COMMENT 'microseconds since the epoch of the act; the highest wins',
    title String COMMENT 'name shown',
    owner LowCardinality(String) COMMENT 'user',
    shared UInt8 COMMENT '1 is visible to all',
    state String COMMENT 'JSON of the page''s state' CODEC(ZSTD(3)),
    deleted UInt8 COMMENT '1 takes the view back'
)
ENGINE = {replicated}ReplacingMergeTree(version)
ORDER BY (page, view_id)
SETTINGS {dedup_window} = 10000
COMMENT 'saved states of pages';

-- step: dict_lists
CREATE DICTIONARY IF NOT EXISTS {processing}.dict_lists{on_cluster}
(
    kind String,
    value String,
    action String DEFAULT ''
)
PRIMARY KEY kind, value
SOURCE(CLICKHOUSE(QUERY 'SELECT kind, value, action FROM {processing}.soc_lists FINAL WHERE deleted = 0 AND (expires_at = toDateTime(0) OR expires_at > now())'{dict_auth}))
LAYOUT(COMPLEX_KEY_HASHED)
LIFETIME(MIN 30 MAX 60)
COMMENT 'entry of the lists for a value';
