-- +goose Up

-- A text "sealed" beside a column: encrypted by the server with a data key (storage/seal.go), bound to its row.

-- Data keys encrypt sealed columns and tokens; each is wrapped by the key-encryption key, which is never stored here.
CREATE TABLE data_keys (
    id         smallint    PRIMARY KEY,
    wrapped    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Keys that sign ID tokens, JWT access tokens and responses. 'next' is published before it signs, 'retired' for as long
-- as something it signed may be valid.
CREATE TABLE signing_keys (
    kid             text        PRIMARY KEY,
    alg             text        NOT NULL,
    state           text        NOT NULL CHECK (state IN ('next', 'current', 'retired')),
    private_key     bytea       NOT NULL, -- sealed PKCS #8
    created_at      timestamptz NOT NULL DEFAULT now(),
    activated_at    timestamptz,
    published_until timestamptz
);
CREATE UNIQUE INDEX signing_keys_one_per_state ON signing_keys (alg, state) WHERE state <> 'retired';

CREATE TABLE clients (
    client_id   text        PRIMARY KEY,
    metadata    jsonb       NOT NULL, -- fapi.Client, RFC 7591 names
    secret_hash bytea,                -- SHA-256 of a client secret that we made
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

-- +goose StatementBegin
CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('countersign_changes', TG_TABLE_NAME);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER clients_changed AFTER INSERT OR UPDATE OR DELETE ON clients
    FOR EACH STATEMENT EXECUTE FUNCTION announce_change();
CREATE TRIGGER signing_keys_changed AFTER INSERT OR UPDATE OR DELETE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_change();
CREATE TRIGGER data_keys_changed AFTER INSERT OR UPDATE OR DELETE ON data_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_change();

-- Identifiers of client assertions, DPoP proofs and one-time codes that were used. UNLOGGED: a crash empties both
-- tables, and what was made before the moment in replay_memory is then refused (storage/replay.go).
CREATE UNLOGGED TABLE used_jtis (
    hash       bytea       PRIMARY KEY, -- SHA-256 of issuer and jti
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_jtis_expires_at ON used_jtis USING brin (expires_at) WITH (pages_per_range = 16);
CREATE UNLOGGED TABLE replay_memory (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    since    timestamptz NOT NULL
);
INSERT INTO replay_memory (since) VALUES ('epoch'); -- a new database has nothing to forget

CREATE TABLE customers (
    id                 uuid        PRIMARY KEY, -- also the OpenID subject
    tenant             text        NOT NULL,    -- Fineract tenant
    username_index     bytea       NOT NULL,    -- HMAC of the name: found by it, not read from it
    profile            bytea       NOT NULL,    -- sealed JSON: username, name, email, phone_number …
    password_hash      text        NOT NULL,    -- Argon2id, PHC string
    fineract_client_id bigint,                  -- none until the core banking system knows the customer
    roles              text[]      NOT NULL DEFAULT '{}',
    failed_attempts    integer     NOT NULL DEFAULT 0,
    locked_until       timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    disabled_at        timestamptz,
    UNIQUE (tenant, username_index)
);

CREATE TABLE accounts (
    customer_id uuid  NOT NULL REFERENCES customers ON DELETE CASCADE,
    id          text  NOT NULL,           -- the core's account id
    details     bytea NOT NULL,           -- sealed JSON: name, number, currency
    PRIMARY KEY (customer_id, id)
);

CREATE TABLE second_factors (
    id           uuid        PRIMARY KEY,
    customer_id  uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    kind         text        NOT NULL CHECK (kind IN ('totp')),
    secret       bytea       NOT NULL,    -- sealed
    confirmed_at timestamptz,             -- none: enrolment has begun
    last_step    bigint      NOT NULL DEFAULT 0, -- RFC 6238 time step of the last code taken: none is taken twice
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer_id, kind)
);

-- A customer's browser session.
CREATE TABLE logins (
    hash        bytea       PRIMARY KEY,  -- SHA-256 of the cookie
    customer_id uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    auth_time   timestamptz NOT NULL,
    acr         text,                     -- none while the second factor is due
    amr         text[]      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX logins_customer ON logins (customer_id);
CREATE INDEX logins_expires_at ON logins (expires_at);

-- What a client asks before the customer is asked (UK Open Banking 3.1).
CREATE TABLE consents (
    id                text        PRIMARY KEY, -- ConsentId
    client_id         text        NOT NULL,
    type              text        NOT NULL CHECK (type IN ('account-access')),
    status            text        NOT NULL CHECK (status IN ('AwaitingAuthorisation', 'Authorised', 'Rejected', 'Revoked')),
    permissions       text[]      NOT NULL,
    expires_at        timestamptz,
    transactions_from timestamptz,
    transactions_to   timestamptz,
    customer_id       uuid        REFERENCES customers ON DELETE CASCADE,
    created_at        timestamptz NOT NULL DEFAULT now(),
    status_changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX consents_customer ON consents (customer_id);

-- What a client may still do for a customer, and under which consent. It outlives authorizations.
CREATE TABLE grants (
    id          uuid        PRIMARY KEY,
    client_id   text        NOT NULL,
    customer_id uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    consent_id  text        REFERENCES consents ON DELETE CASCADE,
    scopes      text[]      NOT NULL,
    account_ids text[]      NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);
CREATE UNIQUE INDEX grants_live ON grants (client_id, customer_id, (coalesce(consent_id, ''))) WHERE revoked_at IS NULL;
CREATE INDEX grants_customer ON grants (customer_id);

-- One journey, one row: a request that waits for a person, is decided once and redeemed once.
CREATE TABLE authorizations (
    id                     uuid        PRIMARY KEY,
    client_id              text        NOT NULL,
    status                 text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'denied')),
    request                bytea       NOT NULL,  -- sealed: the checked parameters
    scopes                 text[]      NOT NULL,
    consent_id             text        REFERENCES consents ON DELETE CASCADE,
    authenticated_after    timestamptz,           -- max_age or prompt=login: an older login does not do
    acr_required           text,                  -- a login with another acr does not do
    request_uri_hash       bytea       UNIQUE,
    request_uri_expires_at timestamptz NOT NULL,  -- to be opened by then
    opened_at              timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    expires_at             timestamptz NOT NULL,  -- end of the journey; once redeemed, of its last token
    -- the decision
    decided_at             timestamptz,
    customer_id            uuid        REFERENCES customers ON DELETE CASCADE,
    grant_id               uuid        REFERENCES grants ON DELETE CASCADE,
    account_ids            text[]      NOT NULL DEFAULT '{}',
    auth_time              timestamptz,
    acr                    text,
    amr                    text[],
    -- the code and the tokens
    code_hash              bytea,
    code_expires_at        timestamptz,
    redeemed_at            timestamptz,
    redemptions            integer     NOT NULL DEFAULT 0, -- attempts included; the first one wins
    refresh_generation     integer     NOT NULL DEFAULT 0, -- counts rotations (public clients)
    revoked_at             timestamptz
);
-- What is pushed is in two indexes; the others wait for what a decision adds. Rows expire about in the order in which they
-- come, which is all that a BRIN index needs.
CREATE UNIQUE INDEX authorizations_code_hash ON authorizations (code_hash) WHERE code_hash IS NOT NULL;
CREATE INDEX authorizations_grant ON authorizations (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX authorizations_expires_at ON authorizations USING brin (expires_at) WITH (pages_per_range = 16);

-- Single access tokens that were revoked while their authorization lives on.
CREATE TABLE revoked_tokens (
    jti        text        PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX revoked_tokens_expires_at ON revoked_tokens (expires_at);
