-- Scheduled and performed procedure steps: what the modality worklist offers, what MPPS reports.

-- One row per scheduled procedure step: the entity that a worklist query returns (PS3.4 K.6.1).
create table archive.worklist (
    source text not null check (source <> ''),     -- who put it here and under which key
    step_id text not null check (step_id <> ''),   -- Scheduled Procedure Step ID
    item jsonb not null,                           -- DICOM JSON of the whole item, one step in it
    status text not null
        check (status in ('SCHEDULED', 'ARRIVED', 'STARTED', 'COMPLETED', 'DISCONTINUED')),
    study_uid text not null,
    accession text not null,
    patient_id text not null,
    issuer text not null,
    requested_procedure_id text not null,
    station_aes text[] not null,
    modality text not null,
    starts text not null,                          -- YYYYMMDDHHMMSSFFFFFF; empty without a date
    patient_name text[] not null,                  -- folded: alphabetic, ideographic, phonetic
    performing_physician text[] not null,
    changed_at timestamptz not null default now(),
    primary key (source, step_id)
);

create index worklist_open on archive.worklist (starts) where status in ('SCHEDULED', 'ARRIVED', 'STARTED');
create index worklist_step on archive.worklist (step_id);
create index worklist_accession on archive.worklist (accession) where accession <> '';
create index worklist_study on archive.worklist (study_uid) where study_uid <> '';

-- Modality performed procedure steps. `change` grows with every change of a row, in the order of
-- the commits, so that a reader follows them as it follows archive.change.
create sequence archive.procedure_step_change;
create table archive.procedure_step (
    sop_uid text primary key,
    attributes jsonb not null,
    status text not null check (status in ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')),
    study_uids text[] not null,
    calling_ae text not null,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    change bigint not null unique
);
