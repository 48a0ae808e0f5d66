-- Version 17 of the catalog: the extent of what was told. Never edited once released.

-- Of what is told as one and stands for several: how many they were, and a digest of them all, so that
-- it is told anew when they are others.
ALTER TABLE notices ADD COLUMN extent TEXT NOT NULL DEFAULT '';
