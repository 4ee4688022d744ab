-- Export jobs of our own, from kick-off to expiry. The files of the earlier form lay in the FHIR
-- store for an hour at most, so their rows are of no use to anyone.
drop table gateway.export_job;

create table gateway.bulk_job (
    id uuid primary key,
    subject text not null,
    client text,
    caller jsonb not null,
    request jsonb not null,
    state text not null default 'accepted' check (
        state in ('accepted', 'running', 'complete', 'failed', 'cancelled', 'expired')
    ),
    transaction_time timestamptz,
    plan jsonb,
    position jsonb,
    issues jsonb not null default '[]',
    written bigint not null default 0,
    expected bigint,
    doing text not null default '',
    reason text,
    -- Raised with each claim: what an earlier claimant still does is refused.
    attempt integer not null default 0,
    lease_until timestamptz,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    expires_at timestamptz,
    busy_until timestamptz
);
create index bulk_job_open on gateway.bulk_job (created_at) where state in ('accepted', 'running');
create index bulk_job_expiry on gateway.bulk_job (expires_at) where state in ('complete', 'failed');

create table gateway.bulk_file (
    job uuid not null references gateway.bulk_job (id) on delete cascade,
    number integer not null,
    role text not null check (role in ('output', 'deleted', 'error', 'work')),
    resource_type text not null,
    name text not null,
    count integer not null,
    bytes bigint not null,
    sha256 text not null,
    primary key (job, number)
);
