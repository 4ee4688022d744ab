-- Extended query tags: attributes that a site wants to search by, beside those that are always kept.
-- Their values are filled in from the files, in the order of the change feed; `reached` is the last
-- change whose instance has been looked at, `target` the one from which on the tag is complete.
create table archive.query_tag (
    tag text primary key,
    vr text not null,
    level text not null check (level in ('study', 'series', 'instance')),
    reached bigint not null default 0,
    target bigint not null
);

create table archive.query_tag_value (
    tag text not null references archive.query_tag on delete cascade,
    sop_uid text not null,
    study_uid text not null,
    series_uid text not null,
    document jsonb not null,
    primary key (tag, sop_uid)
);
create index query_tag_value_place on archive.query_tag_value (tag, study_uid, series_uid);
create index query_tag_value_instance on archive.query_tag_value (sop_uid);
