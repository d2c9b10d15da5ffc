//! Where rows go: the store, and lines for a file or stdout. Each has its own queue; none stops another.

pub(crate) mod clickhouse;
pub(crate) mod lines;
