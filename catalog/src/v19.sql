-- Version 19 of the catalog: in what way something is lost. Never edited once released.

-- `gone`, `replaced` by another good document, or `distrusted`: there as it was, signed by a key that is not trusted
-- here any more. What an earlier version noted says which in its text alone.
ALTER TABLE lost ADD COLUMN loss TEXT NOT NULL DEFAULT 'gone';
UPDATE lost SET loss = 'distrusted' WHERE why LIKE 'NOT TRUSTED HERE:%';
UPDATE lost SET loss = 'replaced' WHERE why LIKE '%another manifest is in its place';
