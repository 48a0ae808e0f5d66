-- Pieces of log are kept with what binds them to the log before: what was known of them is learnt anew.
DELETE FROM log_blocks;
DELETE FROM logs;
