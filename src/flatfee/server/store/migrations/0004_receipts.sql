-- Each index of the receipts costs every request a page of its own, once there are many accounts: two do what
-- three did. A project's receipts are found among its account's without a look at the rows of the others, and
-- what a window was charged is added up from the index alone.
DROP INDEX receipts_by_project;
DROP INDEX receipts_by_account;
DROP INDEX receipts_by_charge;
CREATE INDEX receipts_by_account ON receipts (account, request_id, project, lane);
CREATE INDEX receipts_by_charge ON receipts (account, at, purse, unit, charged) WHERE charged > 0;
