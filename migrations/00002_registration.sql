-- +goose Up

-- Initial access tokens: who has one may register clients (RFC 7591 §3).
CREATE TABLE registration_tokens (
    hash       bytea       PRIMARY KEY, -- SHA-256
    profile    text        NOT NULL,    -- that its clients fall under; '': what the server's settings say
    uses_left  integer     NOT NULL CHECK (uses_left >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX registration_tokens_expires_at ON registration_tokens (expires_at);

-- Clients that registered themselves, and the token with which each manages its registration (RFC 7592 §3).
CREATE TABLE registrations (
    client_id  text        PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    token_hash bytea       NOT NULL,    -- SHA-256
    next_hash  bytea,                   -- of the token that an update gave out; token_hash is good until this one is used
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX registrations_created_at ON registrations (created_at);
