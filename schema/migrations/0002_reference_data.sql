-- Reference data that is loaded from files (networks, crawlers, client identities) and the dictionaries over it.
-- They come before the logs: http_logs asks dict_asn for country and network at insert time.
-- kind: forward
-- min_writer: 0.1.0

-- key: read whole by dict_asn when it loads; no query asks it row by row.
-- sharding: rand()
-- step: ref_asn_ranges
CREATE TABLE IF NOT EXISTS {processing}.ref_asn_ranges{local}{on_cluster}
(
    prefix String COMMENT 'network in CIDR notation, IPv4 or IPv6',
    asn UInt32 COMMENT 'number of the autonomous system, 0 where unknown',
    as_name LowCardinality(String) COMMENT 'name of the autonomous system as the data set spells it',
    country LowCardinality(String) COMMENT 'ISO 3166 two-letter code, empty where unknown',
    loaded_at DateTime('UTC') DEFAULT now() COMMENT 'when the row was loaded, UTC'
)
ENGINE = {replicated}ReplacingMergeTree(loaded_at)
ORDER BY prefix
SETTINGS {dedup_window} = 10000
COMMENT 'networks with their autonomous system and country; empty until a data set is loaded';

-- key: read whole by dict_crawler_ranges when it loads; no query asks it row by row.
-- sharding: rand()
-- step: ref_crawler_ranges
CREATE TABLE IF NOT EXISTS {processing}.ref_crawler_ranges{local}{on_cluster}
(
    prefix String COMMENT 'network in CIDR notation, IPv4 or IPv6',
    operator LowCardinality(String) COMMENT 'who publishes the range, for example a search engine',
    purpose LowCardinality(String) COMMENT 'search, ai_training, ai_user, monitoring, other',
    loaded_at DateTime('UTC') DEFAULT now() COMMENT 'when the row was loaded, UTC'
)
ENGINE = {replicated}ReplacingMergeTree(loaded_at)
ORDER BY prefix
SETTINGS {dedup_window} = 10000
COMMENT 'published address ranges of crawlers';

-- key: read whole by dict_identities when it loads; no query asks it row by row.
-- sharding: rand()
-- step: ref_identities
CREATE TABLE IF NOT EXISTS {processing}.ref_identities{local}{on_cluster}
(
    ja4_norm String COMMENT 'normalised JA4 (without PSK and padding)',
    client LowCardinality(String) COMMENT 'program that sends it, as measured, for example curl',
    family LowCardinality(String) COMMENT 'library or engine, for example openssl, boringssl, nss',
    versions String COMMENT 'range of versions measured, free text',
    measured_at Date COMMENT 'day of the measurement',
    loaded_at DateTime('UTC') DEFAULT now() COMMENT 'when the row was loaded, UTC'
)
ENGINE = {replicated}ReplacingMergeTree(loaded_at)
ORDER BY ja4_norm
SETTINGS {dedup_window} = 10000
COMMENT 'catalogue of measured client identities';

-- step: dict_asn
CREATE DICTIONARY IF NOT EXISTS {processing}.dict_asn{on_cluster}
(
    prefix String,
    asn UInt32 DEFAULT 0,
    as_name String DEFAULT '',
    country String DEFAULT ''
)
PRIMARY KEY prefix
SOURCE(CLICKHOUSE(DB '{processing}' TABLE 'ref_asn_ranges'{dict_auth}))
LAYOUT(IP_TRIE)
LIFETIME(MIN 300 MAX 600)
COMMENT 'autonomous system and country of an address';

-- step: dict_crawler_ranges
CREATE DICTIONARY IF NOT EXISTS {processing}.dict_crawler_ranges{on_cluster}
(
    prefix String,
    operator String DEFAULT '',
    purpose String DEFAULT ''
)
PRIMARY KEY prefix
SOURCE(CLICKHOUSE(DB '{processing}' TABLE 'ref_crawler_ranges'{dict_auth}))
LAYOUT(IP_TRIE)
LIFETIME(MIN 300 MAX 600)
COMMENT 'published crawler range of an address';

-- step: dict_identities
CREATE DICTIONARY IF NOT EXISTS {processing}.dict_identities{on_cluster}
(
    ja4_norm String,
    client String DEFAULT '',
    family String DEFAULT ''
)
PRIMARY KEY ja4_norm
SOURCE(CLICKHOUSE(DB '{processing}' TABLE 'ref_identities'{dict_auth}))
LAYOUT(COMPLEX_KEY_HASHED)
LIFETIME(MIN 300 MAX 600)
COMMENT 'measured identity of a normalised JA4';
