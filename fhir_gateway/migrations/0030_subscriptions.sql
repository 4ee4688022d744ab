-- Subscriptions of clients, and for each the events that it is told of, in order.
create table gateway.subscription (
    id uuid primary key,
    client text not null,
    subject text not null,
    scopes text not null,
    topic text,
    resource_type text not null,
    criteria text not null default '',
    resource jsonb not null,
    headers text[] not null default '{}',
    heartbeat_s integer,
    status text not null check (status in ('requested', 'active', 'error', 'off')),
    reason text,
    version integer not null default 1,
    changed_at timestamptz not null default now(),
    starts_at timestamptz not null,
    ends_at timestamptz,
    last_event bigint not null default 0,
    delivered bigint not null default 0,
    sent_at timestamptz,
    failing_since timestamptz,
    failures integer not null default 0,
    next_attempt_at timestamptz not null default now()
);
create index subscription_client on gateway.subscription (client);
create index subscription_status on gateway.subscription (status);

create table gateway.subscription_event (
    subscription uuid not null references gateway.subscription (id) on delete cascade,
    number bigint not null,
    resource_type text not null,
    resource_id text not null,
    version_id text not null,
    patient text,
    at timestamptz not null,
    taken_at timestamptz not null default now(),
    primary key (subscription, number),
    unique (subscription, resource_type, resource_id, version_id)
);

create table gateway.subscription_cursor (
    resource_type text primary key,
    at timestamptz not null
);
