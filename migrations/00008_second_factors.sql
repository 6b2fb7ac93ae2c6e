-- +goose Up

-- A customer has one factor of each kind, but any number of passkeys. The secret of a kind is what its code in authn says:
-- a TOTP key, hashes of recovery codes, a credential's public key, an address.
ALTER TABLE second_factors DROP CONSTRAINT second_factors_kind_check;
ALTER TABLE second_factors ADD CONSTRAINT second_factors_kind_check
    CHECK (kind IN ('totp', 'recovery_codes', 'passkey', 'email', 'sms'));
ALTER TABLE second_factors DROP CONSTRAINT second_factors_customer_id_kind_key;
CREATE UNIQUE INDEX second_factors_one_of_a_kind ON second_factors (customer_id, kind) WHERE kind <> 'passkey';
CREATE INDEX second_factors_customer ON second_factors (customer_id);
ALTER TABLE second_factors
    ADD COLUMN name         text NOT NULL DEFAULT '', -- by which the customer knows it
    ADD COLUMN last_used_at timestamptz;

ALTER TABLE logins
    ADD COLUMN factor_at   timestamptz, -- when the second factor was shown
    ADD COLUMN factor_kind text,
    ADD COLUMN visit       bytea;       -- sealed JSON: address and browser, for the customer to recognise it by

-- The code that was sent to a customer: there is one, a new one takes its place. The row stays, for it counts.
CREATE TABLE one_time_codes (
    customer_id     uuid        PRIMARY KEY REFERENCES customers ON DELETE CASCADE,
    id              uuid        NOT NULL,
    purpose         text        NOT NULL,           -- what it is good for: "login", "recovery" …
    binding         bytea       NOT NULL,           -- what alone it is good for: a login, the digest of a payment
    code            bytea,                          -- sealed; none once it was used
    attempts        integer     NOT NULL DEFAULT 0,
    expires_at      timestamptz NOT NULL,
    requests        integer     NOT NULL DEFAULT 1, -- codes asked for in the hour that began at requests_since
    requests_since  timestamptz NOT NULL DEFAULT now()
);

-- What happened to a customer's access, for them and for whoever has to find out.
CREATE TABLE events (
    id          uuid        PRIMARY KEY,
    customer_id uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    kind        text        NOT NULL,               -- "login", "password.changed" …
    visit       bytea,                              -- sealed JSON: address and browser
    details     jsonb       NOT NULL DEFAULT '{}',  -- nothing secret or personal
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_customer ON events (customer_id, at DESC);

-- An addressee is found by a keyed hash, like a user name; several customers may share an address.
ALTER TABLE customers
    ADD COLUMN permissions text[] NOT NULL DEFAULT '{}', -- granted by name, such as BYPASS_TWOFACTOR
    ADD COLUMN email_index bytea,
    ADD COLUMN phone_index bytea;
CREATE INDEX customers_email_index ON customers (tenant, email_index) WHERE email_index IS NOT NULL;
CREATE INDEX customers_phone_index ON customers (tenant, phone_index) WHERE phone_index IS NOT NULL;

ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_kind_check
    CHECK (kind IN ('logout', 'ciba', 'approval', 'web_push', 'email', 'sms', 'webhook', 'message'));
