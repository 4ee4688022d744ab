-- Kept metadata belong to one version of the series: a count alone could be reached again by a
-- deletion and a store.

alter table archive.series add column last_change bigint not null default 0;
update archive.series series set last_change = (
    select max(sequence) from archive.change c
    where c.study_uid = series.study_uid and c.series_uid = series.series_uid);
truncate archive.series_metadata;
alter table archive.series_metadata drop column instance_count;
alter table archive.series_metadata add column version bigint not null;
