//! The SQL files, compiled in. A test compares the lists with the folders.

/// Migrations by file name, oldest first.
pub(crate) const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_databases.sql",
        include_str!("../migrations/0001_databases.sql"),
    ),
    (
        "0002_reference_data.sql",
        include_str!("../migrations/0002_reference_data.sql"),
    ),
    ("0003_logs.sql", include_str!("../migrations/0003_logs.sql")),
    ("0004_soc.sql", include_str!("../migrations/0004_soc.sql")),
    (
        "0005_aggregates.sql",
        include_str!("../migrations/0005_aggregates.sql"),
    ),
    (
        "0006_detection.sql",
        include_str!("../migrations/0006_detection.sql"),
    ),
    ("0007_views.sql", include_str!("../migrations/0007_views.sql")),
    ("0008_reasons.sql", include_str!("../migrations/0008_reasons.sql")),
    (
        "0009_label_history.sql",
        include_str!("../migrations/0009_label_history.sql"),
    ),
    (
        "0010_client_number.sql",
        include_str!("../migrations/0010_client_number.sql"),
    ),
    (
        "0011_quick_codecs.sql",
        include_str!("../migrations/0011_quick_codecs.sql"),
    ),
    (
        "0012_facets_by_value.sql",
        include_str!("../migrations/0012_facets_by_value.sql"),
    ),
];

/// Queries by file name.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("active_days.sql", include_str!("../queries/active_days.sql")),
    ("active_lists.sql", include_str!("../queries/active_lists.sql")),
    ("active_models.sql", include_str!("../queries/active_models.sql")),
    ("audit.sql", include_str!("../queries/audit.sql")),
    ("baseline.sql", include_str!("../queries/baseline.sql")),
    (
        "check_aggregates.sql",
        include_str!("../queries/check_aggregates.sql"),
    ),
    ("client_counts.sql", include_str!("../queries/client_counts.sql")),
    (
        "client_detections.sql",
        include_str!("../queries/client_detections.sql"),
    ),
    ("client_facts.sql", include_str!("../queries/client_facts.sql")),
    ("client_flags.sql", include_str!("../queries/client_flags.sql")),
    ("client_hellos.sql", include_str!("../queries/client_hellos.sql")),
    ("client_hours.sql", include_str!("../queries/client_hours.sql")),
    ("client_id.sql", include_str!("../queries/client_id.sql")),
    ("client_labels.sql", include_str!("../queries/client_labels.sql")),
    (
        "client_last_scores.sql",
        include_str!("../queries/client_last_scores.sql"),
    ),
    ("client_models.sql", include_str!("../queries/client_models.sql")),
    (
        "client_numbers.sql",
        include_str!("../queries/client_numbers.sql"),
    ),
    (
        "client_recurrence.sql",
        include_str!("../queries/client_recurrence.sql"),
    ),
    (
        "client_requests.sql",
        include_str!("../queries/client_requests.sql"),
    ),
    ("client_rows.sql", include_str!("../queries/client_rows.sql")),
    ("client_scores.sql", include_str!("../queries/client_scores.sql")),
    (
        "client_siblings.sql",
        include_str!("../queries/client_siblings.sql"),
    ),
    (
        "client_vectors.sql",
        include_str!("../queries/client_vectors.sql"),
    ),
    ("clients_total.sql", include_str!("../queries/clients_total.sql")),
    (
        "column_comments.sql",
        include_str!("../queries/column_comments.sql"),
    ),
    ("corrections.sql", include_str!("../queries/corrections.sql")),
    ("cycles.sql", include_str!("../queries/cycles.sql")),
    ("data_span.sql", include_str!("../queries/data_span.sql")),
    ("entities.sql", include_str!("../queries/entities.sql")),
    (
        "export_requests.sql",
        include_str!("../queries/export_requests.sql"),
    ),
    ("facet.sql", include_str!("../queries/facet.sql")),
    ("facets.sql", include_str!("../queries/facets.sql")),
    (
        "facets_filtered.sql",
        include_str!("../queries/facets_filtered.sql"),
    ),
    (
        "feature_context_ja4.sql",
        include_str!("../queries/feature_context_ja4.sql"),
    ),
    (
        "feature_context_paths.sql",
        include_str!("../queries/feature_context_paths.sql"),
    ),
    (
        "feature_context_progress.sql",
        include_str!("../queries/feature_context_progress.sql"),
    ),
    ("feature_names.sql", include_str!("../queries/feature_names.sql")),
    ("features_1h.sql", include_str!("../queries/features_1h.sql")),
    ("features_24h.sql", include_str!("../queries/features_24h.sql")),
    (
        "features_window.sql",
        include_str!("../queries/features_window.sql"),
    ),
    (
        "filter_clients.sql",
        include_str!("../queries/filter_clients.sql"),
    ),
    ("filter_labels.sql", include_str!("../queries/filter_labels.sql")),
    (
        "filter_reasons.sql",
        include_str!("../queries/filter_reasons.sql"),
    ),
    ("filter_scores.sql", include_str!("../queries/filter_scores.sql")),
    (
        "flagged_addresses.sql",
        include_str!("../queries/flagged_addresses.sql"),
    ),
    (
        "flagged_clients.sql",
        include_str!("../queries/flagged_clients.sql"),
    ),
    ("group_scores.sql", include_str!("../queries/group_scores.sql")),
    (
        "header_order_text.sql",
        include_str!("../queries/header_order_text.sql"),
    ),
    ("header_orders.sql", include_str!("../queries/header_orders.sql")),
    ("heat_map.sql", include_str!("../queries/heat_map.sql")),
    (
        "histogram_filtered.sql",
        include_str!("../queries/histogram_filtered.sql"),
    ),
    ("incidents.sql", include_str!("../queries/incidents.sql")),
    (
        "incidents_by_id.sql",
        include_str!("../queries/incidents_by_id.sql"),
    ),
    ("ja4_ages.sql", include_str!("../queries/ja4_ages.sql")),
    ("join_reasons.sql", include_str!("../queries/join_reasons.sql")),
    ("label_act.sql", include_str!("../queries/label_act.sql")),
    ("label_counts.sql", include_str!("../queries/label_counts.sql")),
    ("label_history.sql", include_str!("../queries/label_history.sql")),
    ("labels.sql", include_str!("../queries/labels.sql")),
    (
        "labels_changed.sql",
        include_str!("../queries/labels_changed.sql"),
    ),
    ("last_cycles.sql", include_str!("../queries/last_cycles.sql")),
    ("last_hellos.sql", include_str!("../queries/last_hellos.sql")),
    ("last_requests.sql", include_str!("../queries/last_requests.sql")),
    (
        "ledger_duplicates.sql",
        include_str!("../queries/ledger_duplicates.sql"),
    ),
    ("ledger_rows.sql", include_str!("../queries/ledger_rows.sql")),
    (
        "ledger_sources.sql",
        include_str!("../queries/ledger_sources.sql"),
    ),
    ("ledger_wrong.sql", include_str!("../queries/ledger_wrong.sql")),
    ("lists.sql", include_str!("../queries/lists.sql")),
    ("losses.sql", include_str!("../queries/losses.sql")),
    ("model_blob.sql", include_str!("../queries/model_blob.sql")),
    ("models.sql", include_str!("../queries/models.sql")),
    ("novelties.sql", include_str!("../queries/novelties.sql")),
    ("novelty.sql", include_str!("../queries/novelty.sql")),
    ("overview.sql", include_str!("../queries/overview.sql")),
    ("quarantine.sql", include_str!("../queries/quarantine.sql")),
    (
        "recent_incidents.sql",
        include_str!("../queries/recent_incidents.sql"),
    ),
    ("recurrence.sql", include_str!("../queries/recurrence.sql")),
    ("request.sql", include_str!("../queries/request.sql")),
    ("requests.sql", include_str!("../queries/requests.sql")),
    (
        "requests_filtered.sql",
        include_str!("../queries/requests_filtered.sql"),
    ),
    ("rules_hits.sql", include_str!("../queries/rules_hits.sql")),
    (
        "rules_legitimate.sql",
        include_str!("../queries/rules_legitimate.sql"),
    ),
    ("saved_views.sql", include_str!("../queries/saved_views.sql")),
    ("seen_on_hosts.sql", include_str!("../queries/seen_on_hosts.sql")),
    (
        "summary_clients.sql",
        include_str!("../queries/summary_clients.sql"),
    ),
    (
        "summary_cycles.sql",
        include_str!("../queries/summary_cycles.sql"),
    ),
    ("top_flagged.sql", include_str!("../queries/top_flagged.sql")),
    (
        "totals_filtered.sql",
        include_str!("../queries/totals_filtered.sql"),
    ),
    (
        "traffic_filtered.sql",
        include_str!("../queries/traffic_filtered.sql"),
    ),
    ("triage_scored.sql", include_str!("../queries/triage_scored.sql")),
    ("triage_seen.sql", include_str!("../queries/triage_seen.sql")),
    ("user.sql", include_str!("../queries/user.sql")),
    ("user_agents.sql", include_str!("../queries/user_agents.sql")),
    ("users.sql", include_str!("../queries/users.sql")),
    (
        "values_filtered.sql",
        include_str!("../queries/values_filtered.sql"),
    ),
];

/// Fills a store with synthetic requests, for measurements.
pub(crate) const GENERATE: &str = include_str!("../bench/generate.sql");
