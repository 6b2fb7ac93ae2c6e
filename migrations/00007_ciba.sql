-- +goose Up

-- Requests that a client begins and a customer decides on another device (CIBA Core).
ALTER TABLE authorizations DROP CONSTRAINT authorizations_status_check;
ALTER TABLE authorizations ADD CONSTRAINT authorizations_status_check CHECK (status IN ('pending', 'approved', 'denied', 'expired'));
ALTER TABLE authorizations ADD COLUMN for_customer_id uuid REFERENCES customers ON DELETE CASCADE; -- who alone may decide; none for whoever logs in
CREATE INDEX authorizations_for_customer ON authorizations (for_customer_id) WHERE status = 'pending' AND for_customer_id IS NOT NULL;

-- A client that is waiting at the token endpoint, at whichever replica, hears of the decision (CIBA Core §7.3).
-- +goose StatementBegin
CREATE FUNCTION announce_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('countersign_decisions', encode(NEW.code_hash, 'hex'));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER authorizations_decided AFTER UPDATE OF status ON authorizations
    FOR EACH ROW WHEN (OLD.status = 'pending' AND NEW.status IN ('approved', 'denied') AND NEW.poll_interval IS NOT NULL)
    EXECUTE FUNCTION announce_decision();

-- A secret by which a customer proves to a device that it is they who ask (CIBA Core §7.1), and wrong ones of late.
ALTER TABLE customers
    ADD COLUMN user_code_hash      bytea,       -- SHA-256 of an HMAC of the code, and the customer's id
    ADD COLUMN user_code_failures  integer     NOT NULL DEFAULT 0,
    ADD COLUMN user_code_failed_at timestamptz;

-- Clients that a customer does not want to be asked by: they never asked for what the client began.
CREATE TABLE muted_clients (
    customer_id uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    client_id   text        NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(),
    until       timestamptz NOT NULL,
    PRIMARY KEY (customer_id, client_id)
);

-- Browsers that ring when a request comes (RFC 8030, RFC 8291).
CREATE TABLE push_subscriptions (
    id            uuid        PRIMARY KEY,
    customer_id   uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    endpoint_hash bytea       NOT NULL UNIQUE, -- SHA-256
    subscription  bytea       NOT NULL,        -- sealed JSON: endpoint and keys
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX push_subscriptions_customer ON push_subscriptions (customer_id);

-- Installations of the bank's own app, whose key approves.
CREATE TABLE approval_devices (
    id           uuid        PRIMARY KEY,
    customer_id  uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    client_id    text        NOT NULL,  -- the app
    public_key   jsonb       NOT NULL,  -- JWK
    name         text        NOT NULL,  -- by which the customer knows it
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz
);
CREATE INDEX approval_devices_customer ON approval_devices (customer_id);

-- The notification that tells a client of a decision has the id of the authorization: there is one. It waits until the
-- request expires; the decision makes it due at once. What is pushed is made once and kept, sealed, until it has arrived.
ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_kind_check
    CHECK (kind IN ('logout', 'ciba', 'approval', 'web_push', 'email', 'sms', 'webhook'));
ALTER TABLE notifications ADD COLUMN payload bytea;
DROP TRIGGER notifications_added ON notifications;
CREATE TRIGGER notifications_added AFTER INSERT ON notifications
    FOR EACH ROW WHEN (NEW.due_at <= now()) EXECUTE FUNCTION announce_change();
CREATE TRIGGER notifications_due AFTER UPDATE OF due_at ON notifications
    FOR EACH ROW WHEN (NEW.due_at <= now()) EXECUTE FUNCTION announce_change();
