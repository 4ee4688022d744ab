-- Counts the writes that may change who may see a study. What was decided before the last of them
-- is asked for again.
create sequence gateway.access_generation;
