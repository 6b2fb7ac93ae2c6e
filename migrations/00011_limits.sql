-- +goose Up

-- How often something was tried, by whom: a customer's known browser, all unknown ones together, an address. Nobody is named:
-- a bucket is a keyed hash, and that of a user name is there whether or not the name is anybody's.
CREATE TABLE limits (
    bucket        bytea            PRIMARY KEY,
    attempts      double precision NOT NULL, -- since the last success; in some buckets they are forgotten with time
    at            timestamptz      NOT NULL, -- of the last one
    blocked_until timestamptz,               -- no attempt gets a verdict before
    expires_at    timestamptz      NOT NULL,
    customer_id   uuid             REFERENCES customers ON DELETE CASCADE -- whose known browser it is; none for other buckets
);
CREATE INDEX limits_expires_at ON limits (expires_at);
CREATE INDEX limits_customer ON limits (customer_id) WHERE customer_id IS NOT NULL;

ALTER TABLE logins ADD COLUMN bucket bytea; -- in which attempts at its next step are counted

ALTER TABLE customers DROP COLUMN failed_attempts, DROP COLUMN locked_until;

-- Somebody wants to get back in without the password, who may be nobody: the row is there all the same.
CREATE TABLE recoveries (
    hash         bytea       PRIMARY KEY,        -- SHA-256 of the cookie of the browser that asked
    customer_id  uuid        REFERENCES customers ON DELETE CASCADE, -- none: no code is right
    code         bytea,                          -- keyed hash of the code that was sent; none once it was used
    replaces     bytea       NOT NULL,           -- SHA-256 of the password hash that a new one may replace
    attempts     integer     NOT NULL DEFAULT 0,
    bucket       bytea       NOT NULL,           -- in which this browser's wrong passwords count
    new_password text,                           -- hash; it counts once the second factor was shown
    notice_id    uuid,
    notice       bytea,                          -- sealed message that says then that it does
    expires_at   timestamptz NOT NULL
);
CREATE INDEX recoveries_customer ON recoveries (customer_id);
CREATE INDEX recoveries_expires_at ON recoveries (expires_at);

-- Of a login that stands for a new password, not for one that was known.
ALTER TABLE logins ADD COLUMN recovery bytea REFERENCES recoveries ON DELETE CASCADE;
CREATE INDEX logins_recovery ON logins (recovery) WHERE recovery IS NOT NULL;
