-- Who may ask.
CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    billing TEXT NOT NULL,
    billing_day INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE projects (
    account TEXT NOT NULL REFERENCES accounts (name),
    name TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;

CREATE TABLE keys (
    digest BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (name),
    project TEXT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    last4 TEXT NOT NULL,
    models TEXT,
    expires_at REAL,
    source TEXT NOT NULL -- 'file': it ends when the configuration names it no more
) WITHOUT ROWID;
CREATE INDEX keys_by_account ON keys (account, source);

-- What was used of a window, in units of the plan's meter.
CREATE TABLE balances (
    account TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    posted INTEGER NOT NULL CHECK (posted >= 0),
    pending INTEGER NOT NULL CHECK (pending >= 0),
    continuation_posted INTEGER NOT NULL CHECK (continuation_posted >= 0),
    continuation_pending INTEGER NOT NULL CHECK (continuation_pending >= 0),
    PRIMARY KEY (account, window_start)
) WITHOUT ROWID;

-- Theoretical arrival times of the rate limit, of the keys that are not at rest.
CREATE TABLE arrivals (
    key_id TEXT PRIMARY KEY,
    arrival REAL NOT NULL
) WITHOUT ROWID;

-- Workflows that hold a slot. A request without a workflow id holds one by its ticket alone.
-- The sweep reads all of them: there are few, and an index on the time would be written with every request.
CREATE TABLE slots (
    account TEXT NOT NULL,
    project TEXT NOT NULL, -- '' for a team key's
    workflow TEXT NOT NULL,
    started_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    route TEXT,
    released INTEGER NOT NULL, -- 1: it ends with the last of its running requests
    PRIMARY KEY (account, project, workflow)
) WITHOUT ROWID;

-- Requests that run now; a row ends when its request is settled or its lease runs out.
CREATE TABLE tickets (
    request_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    project TEXT,
    workflow TEXT,
    lane TEXT NOT NULL,
    reason TEXT NOT NULL,
    purse TEXT NOT NULL,
    units INTEGER NOT NULL,
    unit TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    model_requested TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    dispatched INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tickets_by_workflow ON tickets (account, workflow, project, expires_at);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

-- Every request that ended. Ids are ordered by time, so new rows are always the last.
CREATE TABLE receipts (
    request_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    project TEXT,
    workflow TEXT,
    lane TEXT,
    json BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX receipts_by_account ON receipts (account, request_id);
CREATE INDEX receipts_by_workflow ON receipts (account, workflow, request_id) WHERE workflow IS NOT NULL;
CREATE INDEX receipts_by_project ON receipts (account, project, request_id);
