-- When a task that one process does for all was last begun.
create table archive.upkeep (
    task text primary key,
    began timestamptz not null
);
