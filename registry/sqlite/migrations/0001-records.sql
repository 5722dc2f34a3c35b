CREATE TABLE records (
	place    INTEGER PRIMARY KEY,
	id       BLOB    NOT NULL UNIQUE, -- whose it is
	sequence INTEGER NOT NULL,        -- the record's
	name     TEXT,                    -- the record's, while it is the peer's
	kept     INTEGER NOT NULL,        -- 1 for a revocation that took the place of a record: it stays for good
	record   BLOB    NOT NULL         -- as it was signed
) STRICT;

CREATE UNIQUE INDEX records_by_name ON records (name) WHERE name IS NOT NULL;

-- Who may have to go, the oldest first.
CREATE INDEX records_by_age ON records (sequence) WHERE NOT kept;

-- How many there are, which to count would take longer the more there are.
CREATE TABLE total (records INTEGER NOT NULL) STRICT;
INSERT INTO total VALUES (0);
CREATE TRIGGER record_comes AFTER INSERT ON records BEGIN UPDATE total SET records = records + 1; END;
CREATE TRIGGER record_goes AFTER DELETE ON records BEGIN UPDATE total SET records = records - 1; END;
