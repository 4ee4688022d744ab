-- The gateway's own tables. Written so that it also passes over a database that an earlier
-- version, which kept no files, has set up.
create table if not exists gateway.feed_cursor (
    only_row boolean primary key default true check (only_row),
    sequence bigint not null default 0
);
insert into gateway.feed_cursor default values on conflict do nothing;

create table if not exists gateway.pending_study (
    study_uid text primary key,
    first_sequence bigint not null,
    last_sequence bigint not null,
    due_at timestamptz not null,
    attempts integer not null default 0,
    reason text
);
create index if not exists pending_study_due on gateway.pending_study (due_at);

create table if not exists gateway.published_study (
    study_uid text primary key,
    imaging_study_id text not null,
    content_hash text not null,
    last_change bigint not null,
    published_at timestamptz not null default now()
);

create table if not exists gateway.export_job (
    id uuid primary key,
    subject text not null,
    client text,
    request text not null,
    upstream text not null,
    types text[] not null,
    state text not null check (state in ('running', 'complete', 'failed')),
    transaction_time text,
    files jsonb not null default '[]',
    reason text,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);

create table if not exists gateway.workitem_link (
    uid text primary key,
    task_id text not null,
    ended boolean not null default false
);
create index if not exists workitem_link_task on gateway.workitem_link (task_id);
create index if not exists workitem_link_open on gateway.workitem_link (uid) where not ended;

create table if not exists gateway.workitem_cursor (
    only_row boolean primary key default true check (only_row),
    at timestamptz not null
);
insert into gateway.workitem_cursor (at) values (now() - interval '7 days')
    on conflict do nothing;
