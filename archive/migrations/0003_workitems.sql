-- Work items (PS3.4 annex CC): unified procedure steps, who is subscribed to them, and the events
-- that wait for each subscriber.

create table archive.workitem (
    uid text primary key,
    state text not null check (state in ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')),
    transaction_uid text,               -- the performer's lock: it never leaves this table
    own boolean not null default false, -- performed by this server
    cancel_request jsonb,               -- what the newest request to cancel said
    version bigint not null default 1,
    attributes jsonb not null,          -- the whole data set in DICOM JSON
    names jsonb not null,               -- folded person names, as in archive.study
    studies text[] not null,            -- every study that the data set names
    patient_id text not null,
    codes text[] not null,              -- scheduled workitem codes, each as scheme|value
    start_at text not null,             -- scheduled start, as received
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);

create index workitem_order on archive.workitem (start_at, uid);
create index workitem_open on archive.workitem (state, start_at, uid)
    where state in ('SCHEDULED', 'IN PROGRESS');
create index workitem_patient on archive.workitem (patient_id);
create index workitem_studies on archive.workitem using gin (studies);
create index workitem_finished on archive.workitem (changed_at)
    where state in ('COMPLETED', 'CANCELED');

-- Subscriptions to all present and future items; `filter` is a list of [tag path, value].
create table archive.workitem_global (
    ae text not null,
    filter jsonb not null default '[]',
    locked boolean not null,
    studies text[],                     -- the only studies the subscriber may see; null is any
    primary key (ae, filter)
);

create table archive.workitem_subscription (
    ae text not null,
    uid text not null references archive.workitem on delete cascade,
    locked boolean not null,
    primary key (ae, uid)
);
create index workitem_subscription_uid on archive.workitem_subscription (uid);

-- Written under one lock, so that the order of the numbers is the order of the commits.
create table archive.workitem_event (
    sequence bigint primary key generated always as identity,
    ae text not null,
    uid text not null,
    studies text[] not null,
    message jsonb not null,
    at timestamptz not null default now()
);
create index workitem_event_ae on archive.workitem_event (ae, sequence);
create index workitem_event_at on archive.workitem_event (at);
