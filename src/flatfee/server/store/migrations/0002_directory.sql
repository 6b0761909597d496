-- Accounts, projects and keys that an administrator may make and change, and the log of who did.
ALTER TABLE accounts ADD COLUMN created_at REAL NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN from_file TEXT; -- what the configuration file said of it last, as JSON
UPDATE accounts SET created_at = CAST(strftime('%s', 'now') AS REAL);

ALTER TABLE projects ADD COLUMN receipts TEXT; -- NULL: as the configuration says
ALTER TABLE projects ADD COLUMN created_at REAL NOT NULL DEFAULT 0;
UPDATE projects SET created_at = CAST(strftime('%s', 'now') AS REAL);

-- A key outlives its account, so that nobody brings it back and a list can show it.
CREATE TABLE all_keys (
    digest BLOB PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    account TEXT, -- NULL: an admin key
    project TEXT, -- NULL: a team key or an admin key
    name TEXT NOT NULL,
    last4 TEXT NOT NULL,
    models TEXT, -- NULL: all
    created_at REAL NOT NULL,
    expires_at REAL,
    revoked_at REAL,
    last_used_at REAL,
    source TEXT NOT NULL -- 'file': it ends when the configuration names it no more
) WITHOUT ROWID;
INSERT INTO all_keys (digest, id, kind, account, project, name, last4, models, created_at, expires_at, source)
SELECT digest, 'key_' || lower(hex(randomblob(8))), kind, account, project, name, last4, models,
    CAST(strftime('%s', 'now') AS REAL), expires_at, source FROM keys;
DROP TABLE keys;
ALTER TABLE all_keys RENAME TO keys;
CREATE INDEX keys_by_age ON keys (created_at, id);
CREATE INDEX keys_by_account ON keys (account, created_at, id);
CREATE INDEX keys_of_the_file ON keys (source) WHERE source = 'file';

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL -- JSON
);
