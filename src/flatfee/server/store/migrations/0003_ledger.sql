-- Receipts become the entries of the ledger: each tells when its units were reserved, from which purse, in which
-- unit and how many stayed charged. The old balances tell what continuation had used, which no receipt did.
ALTER TABLE receipts RENAME TO old_receipts;
DROP INDEX receipts_by_account;
DROP INDEX receipts_by_workflow;
DROP INDEX receipts_by_project;

CREATE TABLE receipts (
    request_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    project TEXT,
    workflow TEXT,
    lane TEXT,
    json BLOB NOT NULL,
    at REAL NOT NULL, -- wall time; the entry belongs to the window that holds it
    purse TEXT NOT NULL,
    unit TEXT NOT NULL,
    charged INTEGER NOT NULL CHECK (charged >= 0),
    lapsed INTEGER NOT NULL -- 1: its lease ran out before anybody settled it
) WITHOUT ROWID;
INSERT INTO receipts
SELECT
    request_id, account, project, workflow, lane, json,
    coalesce(CAST(strftime('%s', json_extract(CAST(json AS TEXT), '$.created_at')) AS REAL), 0),
    'fair_use',
    coalesce(json_extract(CAST(json AS TEXT), '$.fair_use.unit'), 'token'),
    coalesce(json_extract(CAST(json AS TEXT), '$.fair_use.charged'), 0),
    0
FROM old_receipts;
DROP TABLE old_receipts;
CREATE INDEX receipts_by_account ON receipts (account, request_id);
CREATE INDEX receipts_by_workflow ON receipts (account, workflow, request_id) WHERE workflow IS NOT NULL;
CREATE INDEX receipts_by_project ON receipts (account, project, request_id);
CREATE INDEX receipts_by_charge ON receipts (account, at) WHERE charged > 0;

-- What was learned after a receipt was written: late settlements and refunds.
CREATE TABLE adjustments (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    account TEXT NOT NULL,
    purse TEXT NOT NULL,
    unit TEXT NOT NULL,
    units INTEGER NOT NULL,
    at REAL NOT NULL, -- the receipt's
    made_at REAL NOT NULL,
    kind TEXT NOT NULL,
    note TEXT NOT NULL,
    json BLOB
);
CREATE INDEX adjustments_by_request ON adjustments (request_id);
CREATE INDEX adjustments_by_account ON adjustments (account, at);
WITH used AS (
    SELECT
        b.account, b.window_start AS start, b.posted, b.continuation_posted,
        coalesce((SELECT r.unit FROM receipts r WHERE r.account = b.account ORDER BY r.request_id DESC LIMIT 1), 'token')
            AS unit,
        coalesce((
            SELECT sum(r.charged) FROM receipts r WHERE r.account = b.account AND r.at >= b.window_start AND r.at < coalesce(
                (SELECT min(n.window_start) FROM balances n WHERE n.account = b.account AND n.window_start > b.window_start),
                9e18
            )
        ), 0) AS told
    FROM balances b
)
INSERT INTO adjustments (request_id, account, purse, unit, units, at, made_at, kind, note)
SELECT '', account, 'continuation', unit, continuation_posted, start, start, 'carried', 'receipts did not tell it'
FROM used WHERE continuation_posted > 0
UNION ALL
SELECT '', account, 'fair_use', unit, posted - told, start, start, 'carried', 'receipts did not tell it'
FROM used WHERE posted > told;

-- Balances are what entries and open tickets come to, kept for the windows of now.
DROP TABLE balances;
CREATE TABLE balances (
    account TEXT NOT NULL,
    unit TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    window_end INTEGER NOT NULL,
    posted INTEGER NOT NULL CHECK (posted >= 0),
    pending INTEGER NOT NULL CHECK (pending >= 0),
    continuation_posted INTEGER NOT NULL CHECK (continuation_posted >= 0),
    continuation_pending INTEGER NOT NULL CHECK (continuation_pending >= 0),
    PRIMARY KEY (account, unit, window_start, window_end)
) WITHOUT ROWID;

-- Leases run on steady time from here on: whoever held one before is gone, so all of them have run out.
ALTER TABLE tickets RENAME TO old_tickets;
DROP INDEX tickets_by_workflow;
DROP INDEX tickets_by_expiry;
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
    model_requested TEXT NOT NULL,
    at REAL NOT NULL,
    expires_at REAL NOT NULL, -- steady time
    claim BLOB, -- digest of the idempotency key
    reduced INTEGER NOT NULL, -- 1: its receipt keeps figures only
    dispatched INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO tickets
SELECT
    request_id, account, project, workflow, lane, reason, purse, units, unit, model_requested, created_at, 0,
    NULL, 0, dispatched
FROM old_tickets;
DROP TABLE old_tickets;
CREATE INDEX tickets_by_workflow ON tickets (account, workflow, project, expires_at);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

DELETE FROM slots;
DELETE FROM arrivals;

-- Idempotency keys that were used. Digests only: a key may be anything that a caller wrote.
CREATE TABLE claims (
    account TEXT NOT NULL,
    project TEXT NOT NULL, -- '' for a team key's
    key BLOB NOT NULL,
    body BLOB NOT NULL,
    request_id TEXT NOT NULL,
    at REAL NOT NULL,
    holder TEXT NOT NULL, -- the process that keeps the answer
    PRIMARY KEY (account, project, key)
) WITHOUT ROWID;
CREATE INDEX claims_by_age ON claims (at);

-- The run of the machine that steady times belong to.
CREATE TABLE boot (id TEXT NOT NULL);
