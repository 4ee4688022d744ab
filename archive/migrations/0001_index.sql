-- The index of the archive: one row per study, series and instance, each with ready QIDO JSON,
-- and the feed of changes.

create table archive.study (
    study_uid text primary key,
    attributes jsonb not null,
    names jsonb not null,               -- folded person names by tag: [[alphabetic, ideographic, phonetic], ...]
    patient_id text not null,
    accession text not null,
    study_date text not null,           -- YYYYMMDD, or as received where it is no date
    study_time text not null,
    name_alphabetic text not null,
    name_ideographic text not null,
    name_phonetic text not null,
    modalities text[] not null,
    sop_classes text[] not null,
    series_count integer not null,
    instance_count integer not null,
    sources text[] not null,
    patient_mismatch boolean not null default false,
    changed_at timestamptz not null
) with (fillfactor = 60);

create index study_order on archive.study (study_date desc, study_time desc, study_uid);
create index study_patient on archive.study (patient_id);
create index study_accession on archive.study (accession);
create index study_name_alphabetic on archive.study (name_alphabetic text_pattern_ops);
create index study_name_ideographic on archive.study (name_ideographic text_pattern_ops);
create index study_name_phonetic on archive.study (name_phonetic text_pattern_ops);

create table archive.series (
    study_uid text not null references archive.study,
    series_uid text not null,
    attributes jsonb not null,
    names jsonb not null,
    modality text not null,
    number bigint,
    instance_count integer not null,
    primary key (study_uid, series_uid)
) with (fillfactor = 60);

create index series_uid on archive.series (series_uid);

create table archive.instance (
    sop_uid text primary key,
    study_uid text not null,
    series_uid text not null,
    sop_class text not null,
    transfer_syntax text not null,
    size bigint not null,
    sha256 text not null,
    frames bigint not null,
    frame_table bytea,
    path text not null,
    number bigint,
    attributes jsonb not null,
    names jsonb not null,
    change bigint not null,
    foreign key (study_uid, series_uid) references archive.series
);

create index instance_series on archive.instance (study_uid, series_uid, number, sop_uid);

-- A sequence number is taken under a lock that is held until the transaction has ended, so that
-- the order of the numbers is the order of the commits: a reader never skips a late one.
create table archive.change (
    sequence bigint primary key generated always as identity,
    kind text not null,
    study_uid text not null,
    series_uid text not null,
    sop_uid text not null,
    at timestamptz not null default clock_timestamp(),
    source jsonb not null
);

-- Series metadata, made once and kept until a new instance joins the series.
create table archive.series_metadata (
    study_uid text not null,
    series_uid text not null,
    instance_count integer not null,
    etag text not null,
    document bytea not null,
    primary key (study_uid, series_uid),
    foreign key (study_uid, series_uid) references archive.series
);
alter table archive.series_metadata alter column document set storage external;
