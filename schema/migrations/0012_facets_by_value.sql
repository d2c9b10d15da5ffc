-- The hours of one facet's value lie side by side, in granules of 256 rows: a page shows a few values of each facet, and the
-- client counts of the others are not read for them.
-- kind: rebuild
-- min_writer: 0.1.0

-- key: counts of a few values of a facet in a window; the values of one facet; user agents; the heat map of JA4 by hour.
-- step: agg_facet_1h_by_value
CREATE TABLE IF NOT EXISTS {processing}.agg_facet_1h__rebuilt{local}{on_cluster} AS {processing}.agg_facet_1h{local}
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toDate(hour)
ORDER BY (dim, value, hour)
SETTINGS {dedup_window} = 10000, index_granularity = 256, min_level_for_wide_part = 1, min_columns_to_activate_adaptive_write_buffer = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;
