-- +goose Up

-- Who a customer is at another OpenID provider. The display is what that provider said when the two were linked.
CREATE TABLE identity_links (
    id           uuid        PRIMARY KEY,
    customer_id  uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    provider     text        NOT NULL,        -- its id in the settings
    identity     bytea       NOT NULL UNIQUE, -- keyed hash of tenant, issuer and sub
    display      bytea       NOT NULL,        -- sealed JSON: issuer, sub, name
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz
);
CREATE INDEX identity_links_customer ON identity_links (customer_id);

-- Browsers on the way to another provider, and back from it with an identity that no customer has yet. Each is taken once.
CREATE TABLE identity_visits (
    hash       bytea       PRIMARY KEY, -- SHA-256 of the browser's cookie and the state that the provider gives back
    content    bytea       NOT NULL,    -- sealed JSON
    expires_at timestamptz NOT NULL
);
CREATE INDEX identity_visits_expires_at ON identity_visits (expires_at);
