-- Dates and times that can be compared across time zones, and names inside sequences.

alter table archive.study drop column utc_offset;
-- The moment in UTC as YYYYMMDDHHMMSSFFFFFF, where date, time and (0008,0201) are all known.
alter table archive.study add column study_utc text not null default '';

-- What `archive.names.fold` does, for names that are not kept folded.
create function archive.fold(name text) returns text immutable parallel safe language sql as $$
    select rtrim(ltrim(replace(replace(replace(replace(
        translate(normalize(regexp_replace(normalize(lower(regexp_replace(
            normalize(name, NFKD), U&'[\0300-\036F]', '', 'g')), NFKD), U&'[\0300-\036F]', '', 'g'),
            NFC), 'øłđðıħ', 'olddih'),
        'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), ' '), '^ ')
$$;

-- A DT value with a UTC offset as YYYYMMDDHHMMSSFFFFFF in UTC; null where it has none or is none.
create function archive.dt_utc(value text) returns text immutable parallel safe language plpgsql as $$
declare
    part text[] := regexp_match(value, '^([0-9]{4,14})([.]([0-9]{1,6}))?([+-])([0-9]{2})([0-9]{2})$');
    whole text;
begin
    if part is null or length(part[1]) % 2 = 1 then return null; end if;
    whole := part[1] || substr('00000101000000', length(part[1]) + 1);
    return to_char(
        make_timestamp(left(whole, 4)::int, substr(whole, 5, 2)::int, substr(whole, 7, 2)::int,
            substr(whole, 9, 2)::int, substr(whole, 11, 2)::int, substr(whole, 13, 2)::int)
        - (part[4] || part[5] || ':' || part[6])::interval, 'YYYYMMDDHH24MISS')
        || rpad(coalesce(part[3], ''), 6, '0');
exception when others then
    return null;
end
$$;
