-- +goose Up

-- Whether the customer has shown that an address is theirs. NULL: the profile was written before addresses were indexed.
ALTER TABLE customers
    ADD COLUMN email_verified boolean,
    ADD COLUMN phone_verified boolean;
CREATE INDEX customers_unindexed ON customers (id) WHERE email_verified IS NULL;
CREATE INDEX customers_fineract_client ON customers (tenant, fineract_client_id) WHERE fineract_client_id IS NOT NULL;

-- Somebody who has asked for access and has yet to show that the address is theirs.
CREATE TABLE sign_ups (
    hash            bytea       PRIMARY KEY,        -- SHA-256 of what their page carries
    tenant          text        NOT NULL,
    address_index   bytea       NOT NULL,           -- keyed hash of the email address or phone number
    applicant       bytea       NOT NULL,           -- sealed JSON: profile and password hash
    code            bytea,                          -- sealed; none when no code is right
    message_id      uuid,                           -- of the newest message; none when there were too many
    messages        integer     NOT NULL DEFAULT 0, -- that were sent
    attempts        integer     NOT NULL DEFAULT 0, -- at the code
    code_expires_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX sign_ups_address ON sign_ups (address_index);
CREATE INDEX sign_ups_expires_at ON sign_ups (expires_at);

-- The bank's word that somebody is a client of the core.
CREATE TABLE invitations (
    id                 uuid        PRIMARY KEY,
    tenant             text        NOT NULL,
    code_index         bytea       NOT NULL UNIQUE,  -- keyed hash of the code
    fineract_client_id bigint      NOT NULL,
    invited            bytea       NOT NULL,         -- sealed JSON: profile, roles, accounts
    email_index        bytea,                        -- of the core's record, like a customer's
    phone_index        bytea,
    created_at         timestamptz NOT NULL DEFAULT now(),
    expires_at         timestamptz NOT NULL,
    used_at            timestamptz,
    customer_id        uuid        REFERENCES customers ON DELETE CASCADE -- who used it
);
CREATE INDEX invitations_email ON invitations (tenant, email_index) WHERE used_at IS NULL AND email_index IS NOT NULL;
CREATE INDEX invitations_phone ON invitations (tenant, phone_index) WHERE used_at IS NULL AND phone_index IS NOT NULL;
CREATE INDEX invitations_expires_at ON invitations (expires_at);
CREATE INDEX invitations_customer ON invitations (customer_id) WHERE customer_id IS NOT NULL;
