-- +goose Up

-- Requests whose outcome the client fetches by itself (RFC 8628, CIBA Core): what it redeems exists before the decision, so
-- their code_hash and code_expires_at are there from the start.
ALTER TABLE authorizations
    ADD COLUMN user_code_hash bytea,       -- HMAC of what the customer types (RFC 8628 §3.2); none when they are found otherwise
    ADD COLUMN poll_interval  interval,    -- the least time between two polls; none for what is not polled
    ADD COLUMN last_polled_at timestamptz,
    ADD COLUMN slowed_at      timestamptz; -- the last poll that came too early
CREATE UNIQUE INDEX authorizations_user_code_hash ON authorizations (user_code_hash) WHERE user_code_hash IS NOT NULL;

-- Wrong user codes, by where they came from. A window begins with the first wrong one after the last window.
CREATE TABLE user_code_failures (
    source   bytea       PRIMARY KEY,      -- HMAC of an address; empty: all together
    failures integer     NOT NULL,
    since    timestamptz NOT NULL
);
INSERT INTO user_code_failures (source, failures, since) VALUES ('', 0, 'epoch');
