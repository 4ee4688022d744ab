-- A group of instances becomes visible in one statement, and so in one round trip.

create function archive.put_studies(rows jsonb, base bigint) returns void
language sql as $$
    insert into archive.study (study_uid, attributes, names, patient_id, issuer, accession,
        study_date, study_time, study_at, study_utc, name_alphabetic, name_ideographic,
        name_phonetic, name_all, modalities, sop_classes, series_count, instance_count, sources,
        patient_mismatch, last_change, changed_at)
    select r.study_uid, r.attributes, r.names, r.patient_id, r.issuer, r.accession, r.study_date,
        r.study_time, r.study_at, r.study_utc, r.name_alphabetic, r.name_ideographic,
        r.name_phonetic, r.name_all, r.modalities, r.sop_classes, r.series_count,
        r.instance_count, r.sources, r.patient_mismatch, r.last_change + base, clock_timestamp()
    from jsonb_to_recordset(rows) as r (
        study_uid text, attributes jsonb, names jsonb, patient_id text, issuer text,
        accession text, study_date text, study_time text, study_at text, study_utc text,
        name_alphabetic text, name_ideographic text, name_phonetic text, name_all text,
        modalities text[], sop_classes text[], series_count int, instance_count int,
        sources text[], patient_mismatch boolean, last_change bigint)
    on conflict (study_uid) do update set
        attributes = excluded.attributes, names = excluded.names,
        patient_id = excluded.patient_id, issuer = excluded.issuer,
        accession = excluded.accession, study_date = excluded.study_date,
        study_time = excluded.study_time, study_at = excluded.study_at,
        study_utc = excluded.study_utc, name_alphabetic = excluded.name_alphabetic,
        name_ideographic = excluded.name_ideographic, name_phonetic = excluded.name_phonetic,
        name_all = excluded.name_all, modalities = excluded.modalities,
        sop_classes = excluded.sop_classes, series_count = excluded.series_count,
        instance_count = excluded.instance_count, sources = excluded.sources,
        patient_mismatch = excluded.patient_mismatch, last_change = excluded.last_change,
        changed_at = excluded.changed_at
$$;

create function archive.put_series(rows jsonb, base bigint) returns void
language sql as $$
    insert into archive.series (study_uid, series_uid, attributes, names, modality, number,
        instance_count, last_change)
    select r.study_uid, r.series_uid, r.attributes, r.names, r.modality, r.number,
        r.instance_count, r.last_change + base
    from jsonb_to_recordset(rows) as r (
        study_uid text, series_uid text, attributes jsonb, names jsonb, modality text,
        number bigint, instance_count int, last_change bigint)
    on conflict (study_uid, series_uid) do update set
        attributes = excluded.attributes, names = excluded.names, modality = excluded.modality,
        number = excluded.number, instance_count = excluded.instance_count,
        last_change = excluded.last_change
$$;

-- Numbers are given while the feed's lock is held, so that their order is that of the commits.
create function archive.take_numbers(count bigint) returns bigint
language plpgsql as $$
declare
    feed text := pg_get_serial_sequence('archive.change', 'sequence');
    base bigint := nextval(feed) - 1;
begin
    if count > 1 then
        perform setval(feed, base + count);
    end if;
    return base;
end $$;

-- known: last_change by Study Instance UID, as the caller remembers it. last_change and change in
-- the rows count from 1 and get `base` added, which is returned. Null, and nothing written, when a
-- study is not as remembered or an instance is there already: each statement of a volatile
-- function sees what was committed before it, so nothing changes once the lock is held.
create function archive.enter(known jsonb, studies jsonb, series jsonb, instances jsonb)
returns bigint language plpgsql
set plan_cache_mode = auto  -- these lookups are by key: a plan for any value is the right one
as $$
declare
    base bigint;
begin
    perform pg_advisory_xact_lock(hashtext('archive:feed'));
    if exists (select from jsonb_each_text(known) as k
               left join archive.study s on s.study_uid = k.key
               where s.last_change is distinct from k.value::bigint)
       or exists (select from jsonb_array_elements(instances) as r
                  join archive.instance i on i.sop_uid = r ->> 'sop_uid') then
        return null;
    end if;
    base := archive.take_numbers(jsonb_array_length(instances));
    perform archive.put_studies(studies, base);
    perform archive.put_series(series, base);
    with entry as materialized (
        select * from jsonb_to_recordset(instances) as r (
            sop_uid text, study_uid text, series_uid text, sop_class text, transfer_syntax text,
            size bigint, sha256 text, head_length int, head_sha256 text, frames bigint,
            frame_table text, path text, number bigint, attributes jsonb, names jsonb,
            change bigint, source jsonb)
    ), change_written as (
        insert into archive.change (sequence, kind, study_uid, series_uid, sop_uid, source)
        overriding system value
        select base + change, 'instance_stored', study_uid, series_uid, sop_uid, source from entry
    )
    insert into archive.instance (sop_uid, study_uid, series_uid, sop_class, transfer_syntax,
        size, sha256, head_length, head_sha256, frames, frame_table, path, number, attributes,
        names, change)
    select sop_uid, study_uid, series_uid, sop_class, transfer_syntax, size, sha256, head_length,
        head_sha256, frames, decode(frame_table, 'base64'), path, number, attributes, names,
        base + change
    from entry;
    notify hilum_change;
    return base;
end $$;
