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
];

/// Queries by file name.
pub(crate) const QUERIES: &[(&str, &str)] = &[
    ("active_days.sql", include_str!("../queries/active_days.sql")),
    ("active_models.sql", include_str!("../queries/active_models.sql")),
    ("audit.sql", include_str!("../queries/audit.sql")),
    ("baseline.sql", include_str!("../queries/baseline.sql")),
    (
        "check_aggregates.sql",
        include_str!("../queries/check_aggregates.sql"),
    ),
    (
        "client_detections.sql",
        include_str!("../queries/client_detections.sql"),
    ),
    ("client_hellos.sql", include_str!("../queries/client_hellos.sql")),
    ("client_hours.sql", include_str!("../queries/client_hours.sql")),
    (
        "client_recurrence.sql",
        include_str!("../queries/client_recurrence.sql"),
    ),
    (
        "client_requests.sql",
        include_str!("../queries/client_requests.sql"),
    ),
    ("client_scores.sql", include_str!("../queries/client_scores.sql")),
    ("corrections.sql", include_str!("../queries/corrections.sql")),
    ("cycles.sql", include_str!("../queries/cycles.sql")),
    ("entities.sql", include_str!("../queries/entities.sql")),
    ("facet.sql", include_str!("../queries/facet.sql")),
    ("facets.sql", include_str!("../queries/facets.sql")),
    (
        "feature_context_ja4.sql",
        include_str!("../queries/feature_context_ja4.sql"),
    ),
    (
        "feature_context_paths.sql",
        include_str!("../queries/feature_context_paths.sql"),
    ),
    ("features_1h.sql", include_str!("../queries/features_1h.sql")),
    ("features_24h.sql", include_str!("../queries/features_24h.sql")),
    (
        "features_window.sql",
        include_str!("../queries/features_window.sql"),
    ),
    ("group_scores.sql", include_str!("../queries/group_scores.sql")),
    ("header_orders.sql", include_str!("../queries/header_orders.sql")),
    ("heat_map.sql", include_str!("../queries/heat_map.sql")),
    ("incidents.sql", include_str!("../queries/incidents.sql")),
    ("labels.sql", include_str!("../queries/labels.sql")),
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
    ("novelty.sql", include_str!("../queries/novelty.sql")),
    ("overview.sql", include_str!("../queries/overview.sql")),
    ("quarantine.sql", include_str!("../queries/quarantine.sql")),
    ("recurrence.sql", include_str!("../queries/recurrence.sql")),
    ("request.sql", include_str!("../queries/request.sql")),
    (
        "requests_filtered.sql",
        include_str!("../queries/requests_filtered.sql"),
    ),
    ("saved_views.sql", include_str!("../queries/saved_views.sql")),
    ("top_flagged.sql", include_str!("../queries/top_flagged.sql")),
    ("user.sql", include_str!("../queries/user.sql")),
    ("user_agents.sql", include_str!("../queries/user_agents.sql")),
];

/// Fills a store with synthetic requests, for measurements.
pub(crate) const GENERATE: &str = include_str!("../bench/generate.sql");
