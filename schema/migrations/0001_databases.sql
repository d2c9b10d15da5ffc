-- The two databases: what happened ({logs}) and what was made of it ({processing}).
-- kind: forward
-- min_writer: 0.1.0

-- step: create_logs_database
CREATE DATABASE IF NOT EXISTS {logs}{on_cluster};

-- step: create_processing_database
CREATE DATABASE IF NOT EXISTS {processing}{on_cluster};
