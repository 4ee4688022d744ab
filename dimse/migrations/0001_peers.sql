-- DICOM peers by name: where `hilum send --to NAME` sends to.

create table dimse.peer (
    name text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    ae_title text not null check (length(ae_title) between 1 and 16),
    host text not null check (host <> ''),
    port integer not null check (port between 1 and 65535),
    added_at timestamptz not null default now()
);
