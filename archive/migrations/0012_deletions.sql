-- The newest deletion in a study is found without reading the feed.
create index change_deletion on archive.change (study_uid, sequence) where kind = 'instance_deleted';
