-- +goose Up

-- A session is what the logins of one customer in one browser have in common: the one before the second factor and the
-- one after it, and the next one with the same cookie. Clients know it as sid. It ends with its last login.
ALTER TABLE logins ADD COLUMN session_id uuid NOT NULL DEFAULT gen_random_uuid();
CREATE INDEX logins_session ON logins (session_id);

-- Which session a request was approved in: whoever got tokens in it is told when it ends.
ALTER TABLE authorizations ADD COLUMN session_id uuid;
CREATE INDEX authorizations_session ON authorizations (session_id) WHERE session_id IS NOT NULL;

-- What clients are to be told. A row is made in the transaction of what it tells of, and goes when it was told or given up.
CREATE TABLE notifications (
    id         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    kind       text        NOT NULL CHECK (kind IN ('logout')),
    client_id  text        NOT NULL,
    about      jsonb       NOT NULL,                   -- identifiers of what happened; nothing secret
    attempts   integer     NOT NULL DEFAULT 0,         -- that were begun
    due_at     timestamptz NOT NULL DEFAULT now(),     -- of the next attempt; while one runs, when it is taken for lost
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notifications_due_at ON notifications (due_at);
-- For each row, since most statements that may add some add none; Postgres sends what is the same once per transaction.
CREATE TRIGGER notifications_added AFTER INSERT ON notifications
    FOR EACH ROW EXECUTE FUNCTION announce_change();
