-- Imaging orders: what the worklist and the studies need to know of each ServiceRequest.
create table gateway.imaging_order (
    service_request text primary key,
    study_uid text not null,
    patient text not null,
    patient_id text not null default '',
    encounter text,
    accession_system text,
    accession text,
    open boolean not null,
    problem text,
    updated_at timestamptz not null default now()
);
create index imaging_order_study on gateway.imaging_order (study_uid);
create index imaging_order_accession on gateway.imaging_order (accession);
create index imaging_order_patient on gateway.imaging_order (patient);
create index imaging_order_encounter on gateway.imaging_order (encounter);

-- How far each follower of the FHIR store has come.
create table gateway.fhir_cursor (
    name text primary key,
    at timestamptz not null
);

-- How far the reports of modalities (MPPS) have been told to the FHIR store.
create table gateway.procedure_cursor (
    only_row boolean primary key default true check (only_row),
    change bigint not null default 0
);
insert into gateway.procedure_cursor default values;

-- Asks for a study to be looked at anew although the archive has nothing new of it.
alter table gateway.pending_study add column again bigint not null default 0;

-- Patients that another has taken the place of, to notice when they are separated again.
create table gateway.patient_merge (
    patient text primary key,
    merged_into text not null
);
