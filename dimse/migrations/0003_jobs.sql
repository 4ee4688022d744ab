-- What the rules have ordered: instances to send on, priors to look for and to fetch. A lane is
-- one peer in one direction; its jobs are done in the order of their ids.

create table dimse.job (
    id bigint primary key generated always as identity,
    kind text not null check (kind in ('forward', 'priors', 'fetch')),
    lane text not null,
    rule text not null,
    peer text not null,
    study text not null,
    instances text[] not null default '{}',     -- what is left to send
    total integer not null default 0,
    state text not null default 'waiting'
        check (state in ('waiting', 'running', 'done', 'failed', 'cancelled')),
    attempts integer not null default 0,        -- tries that the peer refused
    tries integer not null default 0,           -- tries in all, since the last success
    due timestamptz not null default now(),
    added timestamptz not null default now(),
    changed timestamptz not null default now(),
    message text not null default '',
    key text unique                             -- what is ordered once is not ordered again
);

create index job_lane on dimse.job (lane, id) where state in ('waiting', 'running');
create index job_changed on dimse.job (changed) where state in ('done', 'failed', 'cancelled');

-- How far the rules have read the archive's feed.
create table dimse.rule_cursor (
    name text primary key,
    sequence bigint not null
);
